-- journey/ask: asks whoever holds the lease to step aside.
-- params:  $1 text what for, $2 text who is asked
-- returns: id bigint
-- majors:  15-18
insert into migrate.request (kind, asked_by) values ($1, 'asked of ' || $2::text) returning id
