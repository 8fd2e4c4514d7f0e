-- journey/answer: answers the requests made since an epoch's lease was taken whose askers still live.
-- params:  $1 bigint epoch
-- returns: nothing; the row count tells whether anybody still waits for the answer
-- majors:  15-18
update migrate.request r
set answered_at = clock_timestamp()
from migrate.lease l, pg_stat_activity a
where r.answered_at is null
  and l.epoch = $1 and r.asked_at >= l.taken_at
  and a.pid = r.backend_pid and a.backend_start = r.backend_start
