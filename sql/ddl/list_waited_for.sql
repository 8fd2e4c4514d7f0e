-- ddl/list_waited_for: whom a session waits for.
-- params:  $1 int its pid
-- returns: pid int, who text
-- majors:  15-18
select a.pid,
       concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state,
                 'for ' || date_trunc('second', clock_timestamp() - a.xact_start), left(a.query, 120)) as who
  from unnest(pg_blocking_pids($1)) as blocker(pid)
  join pg_stat_activity a on a.pid = blocker.pid
