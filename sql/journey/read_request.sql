-- journey/read_request: the oldest request made since an epoch's lease was taken, and not answered.
-- params:  $1 bigint epoch
-- returns: kind text
-- majors:  15-18
select r.kind
from migrate.request r, migrate.lease l
where r.answered_at is null and l.epoch = $1 and r.asked_at >= l.taken_at
order by r.id
limit 1
