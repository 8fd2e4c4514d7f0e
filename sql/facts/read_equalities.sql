-- facts/read_equalities: the operators of types whose own equality is none of pg_catalog's: with an empty search path `=` is another one for them, or none.
-- params:  $1 text[] types, as format_type writes them
-- returns: type_name text, equals text; no row for other types
-- majors:  15-18
select named.type_name, format('operator(%I.%s)', n.nspname, o.oprname) as equals
  from unnest($1::text[]) as named (type_name)
 cross join lateral (
      with recursive under (type) as (
          select to_regtype(named.type_name)::oid
          union all
          select t.typbasetype from under join pg_type as t on t.oid = under.type where t.typtype = 'd')
      select under.type from under join pg_type as t on t.oid = under.type and t.typtype <> 'd') as base
  join pg_opclass as k on k.opcintype = base.type and k.opcdefault
  join pg_am as m on m.oid = k.opcmethod and m.amname = 'btree'
  join pg_amop as p on p.amopfamily = k.opcfamily and p.amopstrategy = 3 and p.amoplefttype = k.opcintype and p.amoprighttype = k.opcintype
  join pg_operator as o on o.oid = p.amopopr
  join pg_namespace as n on n.oid = o.oprnamespace
 where n.nspname <> 'pg_catalog'
