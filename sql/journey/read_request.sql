-- journey/read_request: the oldest request made since an epoch's lease was taken, not answered, whose asker lives.
-- params:  $1 bigint epoch
-- returns: kind text
-- majors:  15-18
select r.kind
from migrate.request r
join migrate.lease l on l.epoch = $1 and r.asked_at >= l.taken_at
join pg_stat_activity a on a.pid = r.backend_pid and a.backend_start = r.backend_start
where r.answered_at is null
order by r.id
limit 1
