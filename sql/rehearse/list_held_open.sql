-- rehearse/list_held_open: the tables behind some names, where a name is a table's or an index's.
-- params:  $1 text[] names, quoted and qualified
-- returns: schema, name of each table once, partitioned ones first
-- majors:  15-18
select n.nspname::text as schema, t.relname::text as name
from unnest($1::text[]) as named(relation)
join pg_class c on c.oid = to_regclass(named.relation)
left join pg_index x on x.indexrelid = c.oid
join pg_class t on t.oid = coalesce(x.indrelid, c.oid)
join pg_namespace n on n.oid = t.relnamespace
where t.relkind in ('r', 'p')
group by t.relkind, n.nspname, t.relname
order by t.relkind = 'p' desc, 1, 2
