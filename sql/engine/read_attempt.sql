-- engine/read_attempt: the attempt of a plan that has not ended.
-- params:  $1 text plan
-- returns: pin jsonb
-- majors:  15-18
select pin from migrate.attempt where plan = $1 and ended_at is null order by attempt desc limit 1
