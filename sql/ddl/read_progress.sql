-- ddl/read_progress: how far an index build is, and whom it waits for.
-- params:  $1 int the building session's pid
-- returns: phase text, rows bigint, bytes bigint, total_bytes bigint, locker_pid int, locker text, waits bool; no row when it builds nothing
-- majors:  15-18
select p.phase,
       p.tuples_done as rows,
       p.blocks_done * current_setting('block_size')::bigint as bytes,
       p.blocks_total * current_setting('block_size')::bigint as total_bytes,
       locker.pid as locker_pid,
       concat_ws(', ', locker.usename, nullif(locker.application_name, ''), locker.state,
                 'for ' || date_trunc('second', clock_timestamp() - locker.xact_start), left(locker.query, 120)) as locker,
       p.phase like 'waiting for%' as waits
  from pg_stat_progress_create_index p
  left join pg_stat_activity locker on locker.pid = p.current_locker_pid
 where p.pid = $1
