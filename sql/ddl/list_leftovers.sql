-- ddl/list_leftovers: INVALID interim indexes that an interrupted REINDEX CONCURRENTLY left on a table, or on an index's table.
-- params:  $1 text the table's or index's schema, $2 text its name
-- returns: schema text, name text
-- majors:  15-18
with named as (
    select coalesce(i.indrelid, c.oid) as oid
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      left join pg_index i on i.indexrelid = c.oid
     where n.nspname = $1 and c.relname = $2
), tables as (
    select coalesce(tree.relid, named.oid) as oid from named left join lateral pg_partition_tree(named.oid) as tree on true
)
select n.nspname::text as schema, c.relname::text as name
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
 where i.indrelid in (select oid from tables) and not i.indisvalid and c.relname ~ '_cc(new|old)[0-9]*$'
 order by c.relname
