-- engine/read_last_attempt: the newest attempt of a plan, ended or not.
-- params:  $1 text plan
-- returns: pin jsonb, ended bool; no row when none was begun
-- majors:  15-18
select pin, ended_at is not null as ended from migrate.attempt where plan = $1 order by attempt desc limit 1
