-- revocation/hold_lease: keeps the lease ours until the transaction ends; a takeover waits for us.
-- params:  $1 bigint epoch
-- returns: one row when the epoch is still ours, none when somebody took over
-- majors:  15-18
select 1 from migrate.lease where epoch = $1::bigint for key share
