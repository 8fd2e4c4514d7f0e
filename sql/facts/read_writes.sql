-- facts/read_writes: rows written to tables since the server began to count, and for how long it has.
-- params:  $1 text[] quoted table names
-- returns: at bigint (place in the list, from 1), inserted bigint, updated bigint, deleted bigint, counted_ms bigint (null: not told),
--          counts bool (whether it counts at all)
-- majors:  15-18
select wanted.at, coalesce(s.n_tup_ins, 0) as inserted, coalesce(s.n_tup_upd, 0) as updated, coalesce(s.n_tup_del, 0) as deleted,
       (select (extract(epoch from clock_timestamp() - d.stats_reset) * 1000)::bigint
          from pg_stat_database as d where d.datname = current_database()) as counted_ms,
       current_setting('track_counts')::bool as counts
  from unnest($1::text[]) with ordinality as wanted (name, at)
  left join pg_stat_all_tables as s on s.relid = to_regclass(wanted.name)
 order by wanted.at
