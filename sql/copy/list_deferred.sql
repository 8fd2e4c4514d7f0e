-- copy/list_deferred: what an attempt deferred, with what ordering the rebuild needs of the tables as they are now.
-- params:  $1 attempt int
-- returns: table_name text, name text, kind text, definition text, rebuilt bool, table_bytes bigint, partitioned bool, depth int; the biggest table's first
-- majors:  15-18
select o.table_name, o.name, o.kind, o.definition,
       o.rebuilt_at is not null as rebuilt,
       coalesce(t.bytes, 0) as table_bytes,
       coalesce(t.partitioned, false) as partitioned,
       coalesce(t.depth, 0) as depth
  from migrate.deferred_object as o
  left join lateral (
      select pg_table_size(c.oid) as bytes,
             c.relkind = 'p' as partitioned,
             (with recursive above as (
                  select c.oid, 0 as depth
                  union all
                  select i.inhparent, above.depth + 1 from above join pg_inherits as i on i.inhrelid = above.oid)
              select max(depth) from above) as depth
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
       where case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname = o.table_name) as t on true
 where o.attempt = $1
 order by table_bytes desc, o.table_name, o.name
