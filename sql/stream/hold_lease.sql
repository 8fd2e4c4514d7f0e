-- stream/hold_lease: proves that the lease is still ours, and keeps it so until this transaction ends.
-- params:  $1 epoch (bigint)
-- returns: one row when it is ours
-- majors:  15-18
select 1
from migrate.lease
where epoch = $1
for key share
