-- copy/cancel_blockers: cancels those of our backends for whose lock somebody has waited longer than a second.
-- params:  $1 pids of our copying backends int[]
-- returns: pid int of each that was cancelled
-- majors:  15-18
select ours.pid
  from (select distinct blocker as pid
          from pg_locks as waiter
         cross join lateral unnest(pg_blocking_pids(waiter.pid)) as blocker
         where not waiter.granted
           and waiter.waitstart < clock_timestamp() - interval '1 second'
           and blocker = any ($1)) as ours
 where pg_cancel_backend(ours.pid)
