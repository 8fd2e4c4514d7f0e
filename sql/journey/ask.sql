-- journey/ask: asks whoever holds the lease to step aside; the request lives as long as this session.
-- params:  $1 text what for, $2 text who is asked
-- returns: id bigint
-- majors:  15-18
insert into migrate.request (kind, asked_by, backend_pid, backend_start)
select $1, 'asked of ' || $2::text, a.pid, a.backend_start
from pg_stat_activity a where a.pid = pg_backend_pid()
returning id
