-- ddl/list_blockers: transactions that hold a lock a statement would have to wait for, oldest first.
-- params:  $1 text[] relations as SQL names, $2 text[] at the same place a lock mode that conflicts, as pg_locks writes it
-- returns: pid int, role text, application text, state text, age_ms bigint, relation text, mode text, query text
-- majors:  15-18
select distinct on (age_ms, a.pid)
       a.pid,
       coalesce(a.usename::text, '') as role,
       a.application_name as application,
       coalesce(a.state, a.backend_type, '') as state,
       coalesce((extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start)) * 1000)::bigint, 0) as age_ms,
       l.relation::regclass::text as relation,
       l.mode,
       left(a.query, 200) as query
  from unnest($1::text[], $2::text[]) as wanted(relation, mode)
  join pg_locks l on l.locktype = 'relation' and l.granted
                 and l.database = (select oid from pg_database where datname = current_database())
                 and l.relation = to_regclass(wanted.relation) and l.mode = wanted.mode
  join pg_stat_activity a on a.pid = l.pid
 where l.pid <> pg_backend_pid()
 order by age_ms desc, a.pid
