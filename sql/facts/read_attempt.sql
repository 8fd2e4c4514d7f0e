-- facts/read_attempt: the attempt that is on. Run only when migrate.attempt exists.
-- params:  none
-- returns: attempt int
-- majors:  15-18
-- needs:   migrate.attempt
select attempt
from migrate.attempt
where ended_at is null
order by attempt desc
limit 1
