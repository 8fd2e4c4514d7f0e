-- stream/read_columns: the columns of a table we write to, as far as writing depends on them.
-- params:  $1 schema (text), $2 table (text)
-- returns: name (text), is_generated (boolean), is_identity_always (boolean), equals (text: the operator of the type's own
--          equality, wherever it lives), under_domain (text or null: the type without the domain's checks), composite (text
--          or null: the type, when it is a composite one);
--          no row when there is no such table, one with a null name when it has no columns
-- majors:  15-18
select a.attname::text,
       a.attgenerated <> '',
       a.attidentity = 'a',
       coalesce((
           select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)
           from pg_catalog.pg_opclass k
           join pg_catalog.pg_am m on m.oid = k.opcmethod and m.amname = 'btree'
           join pg_catalog.pg_amop p on p.amopfamily = k.opcfamily and p.amopstrategy = 3 and p.amoplefttype = k.opcintype and p.amoprighttype = k.opcintype
           join pg_catalog.pg_operator o on o.oid = p.amopopr
           join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
           where k.opcdefault
             and k.opcintype = base.type
             and n.nspname <> 'pg_catalog'
           limit 1), '='),
       case when base.type <> a.atttypid then pg_catalog.format_type(base.type, base.modifier) end,
       case when base.kind = 'c' then pg_catalog.format_type(base.type, base.modifier) end
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join lateral (
    with recursive under (type, modifier) as (
        select a.atttypid, a.atttypmod
        union all
        select t.typbasetype, t.typtypmod from under join pg_catalog.pg_type t on t.oid = under.type where t.typtype = 'd'
    )
    select under.type, under.modifier, t.typtype as kind from under join pg_catalog.pg_type t on t.oid = under.type and t.typtype <> 'd'
) base on true
where n.nspname = $1
  and c.relname = $2
order by a.attnum
