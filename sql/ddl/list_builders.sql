-- ddl/list_builders: sessions that hold a lock on an index and work on it now, ours left out.
-- params:  $1 oid the index
-- returns: pid int, query text
-- majors:  15-18
select a.pid, left(a.query, 200) as query
  from pg_stat_progress_create_index p
  join pg_stat_activity a on a.pid = p.pid
 where p.index_relid = $1 and p.datname = current_database() and p.pid <> pg_backend_pid()
