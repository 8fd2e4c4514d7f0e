-- ddl/list_indexes: an index, or all indexes with storage of a table or of its partitions.
-- params:  $1 text the index's or table's schema, $2 text its name
-- returns: oid oid, schema text, name text, is_valid bool
-- majors:  15-18
with named as (
    select c.oid, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2
), relations as (
    select coalesce(tree.relid, named.oid) as oid
      from named left join lateral pg_partition_tree(named.oid) as tree on named.relkind in ('p', 'I')
)
select c.oid, n.nspname::text as schema, c.relname::text as name, i.indisvalid as is_valid
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'i' and (i.indexrelid in (select oid from relations) or i.indrelid in (select oid from relations))
 order by c.oid
