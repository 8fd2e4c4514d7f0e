-- mapping/list_row_rules: what a table demands of its rows, one by one or beside each other: NOT NULL, CHECK, what is unique, what excludes.
-- params:  $1 schema text, $2 table text
-- returns: kind text (not_null, check, unique, exclusion), name text, expression text (a column, a condition), keys text[] (what is unique or excludes), predicate text or null, nulls_distinct bool, method text, classes text[], operators text[] (of an exclusion: its index, and of each key)
-- majors:  15-18
with target as (
    select c.oid
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')
),
indexed as (
    select x.indexrelid, x.indisunique and not x.indisexclusion as is_unique, not x.indnullsnotdistinct as nulls_distinct,
           i.relname::text as name, i.relam, x.indclass,
           array(
               select '(' || pg_get_indexdef(x.indexrelid, place, true) || ')'
                      || case when x.indcollation[place - 1] in (0, a.attcollation) then ''
                              else ' collate ' || quote_ident(l.collnamespace::regnamespace::text) || '.' || quote_ident(l.collname) end
                 from generate_series(1, x.indnkeyatts) as place
                 left join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[place - 1] and a.attnum > 0
                 left join pg_collation as l on l.oid = x.indcollation[place - 1]
                order by place) as keys,
           pg_get_expr(x.indpred, x.indrelid) as predicate
      from target
      join pg_index as x on x.indrelid = target.oid and x.indisvalid
      join pg_class as i on i.oid = x.indexrelid
)
select 'not_null' as kind, a.attname::text as name, quote_ident(a.attname) as expression, '{}'::text[] as keys, null as predicate, true as nulls_distinct,
       null as method, '{}'::text[] as classes, '{}'::text[] as operators
  from target
  join pg_attribute as a on a.attrelid = target.oid and a.attnum > 0 and not a.attisdropped and a.attnotnull
union all
select 'check', k.conname::text, pg_get_expr(k.conbin, k.conrelid), '{}', null, true, null, '{}', '{}'
  from target
  join pg_constraint as k on k.conrelid = target.oid and k.contype = 'c'
   and to_jsonb(k) ->> 'conenforced' is distinct from 'false'
union all
select 'unique', name, null, keys, predicate, nulls_distinct, null, '{}', '{}'
  from indexed
 where is_unique
union all
select 'exclusion', k.conname::text, null, x.keys, x.predicate, true, quote_ident(m.amname),
       array(
           select format('%I.%I', n.nspname, c.opcname)
             from unnest(x.indclass::oid[]) with ordinality as u (class, place)
             join pg_opclass as c on c.oid = u.class
             join pg_namespace as n on n.oid = c.opcnamespace
            order by u.place),
       array(
           select format('operator(%I.%s)', n.nspname, o.oprname)
             from unnest(k.conexclop) with ordinality as u (operator, place)
             join pg_operator as o on o.oid = u.operator
             join pg_namespace as n on n.oid = o.oprnamespace
            order by u.place)
  from target
  join pg_constraint as k on k.conrelid = target.oid and k.conexclop is not null
  join indexed as x on x.indexrelid = k.conindid
  join pg_am as m on m.oid = x.relam
 order by kind, name
