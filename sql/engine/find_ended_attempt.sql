-- engine/find_ended_attempt: an attempt of this plan with this fingerprint that came to its end.
-- params:  $1 text plan, $2 text fingerprint
-- returns: a row, or none
-- majors:  15-18
select from migrate.attempt where plan = $1 and fingerprint = $2 and ended_at is not null limit 1
