-- ddl/list_waiting_behind: sessions of clients that wait for a session, or for one that waits for it, and how long for its sake.
-- params:  $1 int the session's pid
-- returns: pid int, since_us bigint when its wait began, waited_us bigint of it since the session's transaction began
-- majors:  15-18
with recursive waiting as materialized (
    select l.pid, min(coalesce(l.waitstart, clock_timestamp())) as since, pg_blocking_pids(l.pid) as blockers
      from pg_locks l
     where not l.granted
     group by l.pid
), behind (pid) as (
    select pid from waiting where $1 = any (blockers)
    union
    select waiting.pid from waiting join behind on behind.pid = any (waiting.blockers)
)
select waiting.pid,
       (extract(epoch from waiting.since) * 1000000)::bigint as since_us,
       greatest((extract(epoch from clock_timestamp() - greatest(waiting.since, ours.xact_start)) * 1000000)::bigint, 0) as waited_us
  from behind
  join waiting using (pid)
  join pg_stat_activity a using (pid)
  join pg_stat_activity ours on ours.pid = $1
 where a.pid <> $1 and a.backend_type = 'client backend'
