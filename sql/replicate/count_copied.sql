-- replicate/count_copied: how far an earlier copy of this attempt came.
-- params:  $1 int attempt
-- returns: begun bigint, done bigint
-- majors:  15-18
select count(*) as begun, count(*) filter (where state = 'done') as done
from migrate.copy_table where attempt = $1
