-- copy/cancel_blockers: stops those of our backends for whose lock somebody has waited longer than a second. One that waits for
--   us to take its rows does not see that it is cancelled, so it is ended.
-- params:  $1 pids of our copying backends int[]
-- returns: pid int of each that was stopped
-- majors:  15-18
select ours.pid
  from (select distinct blocker as pid
          from pg_locks as waiter
         cross join lateral unnest(pg_blocking_pids(waiter.pid)) as blocker
         where not waiter.granted
           and waiter.waitstart < clock_timestamp() - interval '1 second'
           and blocker = any ($1)) as ours
  join pg_stat_activity as activity on activity.pid = ours.pid
 where case when activity.wait_event = 'ClientWrite' then pg_terminate_backend(ours.pid) else pg_cancel_backend(ours.pid) end
