-- copy/list_roots: what to ANALYZE: tables, or the top of the partition tree they are in, which takes its leaves along.
-- params:  $1 schemas text[], $2 tables text[], of equal length
-- returns: schema text, tbl text, bytes bigint (with all leaves); the biggest first
-- majors:  15-18
select n.nspname::text as schema, c.relname::text as tbl,
       coalesce((select sum(pg_table_size(t.relid)) from pg_partition_tree(c.oid) as t), pg_table_size(c.oid))::bigint as bytes
  from (select distinct coalesce(pg_partition_root(c.oid)::oid, c.oid) as oid
          from unnest($1::text[], $2::text[]) as u (schema, tbl)
          join pg_namespace as n on n.nspname = u.schema
          join pg_class as c on c.relnamespace = n.oid and c.relname = u.tbl
         where c.relkind in ('r', 'p', 'm')) as root
  join pg_class as c on c.oid = root.oid
  join pg_namespace as n on n.oid = c.relnamespace
 order by bytes desc, schema, tbl
