-- mapping/read_extent: how much a table is to read, its partitions with it.
-- params:  $1 table text, as SQL names it
-- returns: bytes bigint, is_partitioned bool
-- majors:  15-18
select case when c.relkind = 'p'
            then (select coalesce(sum(pg_table_size(t.relid)), 0)::bigint from pg_partition_tree(c.oid) as t where t.isleaf)
            else pg_table_size(c.oid)
       end as bytes,
       c.relkind = 'p' as is_partitioned
  from pg_class as c
 where c.oid = $1::text::regclass
