-- mapping/list_row_rules: what a table demands of its rows: NOT NULL, CHECK, what is unique, and what is not looked at.
-- params:  $1 schema text, $2 table text
-- returns: kind text (not_null, check, unique, other), name text, expression text (a column, a condition), keys text[] (what is unique), predicate text or null, nulls_distinct bool
-- majors:  15-18
with target as (
    select c.oid
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')
)
select 'not_null' as kind, a.attname::text as name, quote_ident(a.attname) as expression, '{}'::text[] as keys, null as predicate, true as nulls_distinct
  from target
  join pg_attribute as a on a.attrelid = target.oid and a.attnum > 0 and not a.attisdropped and a.attnotnull
union all
select 'check', k.conname::text, pg_get_expr(k.conbin, k.conrelid), '{}', null, true
  from target
  join pg_constraint as k on k.conrelid = target.oid and k.contype = 'c'
union all
select 'unique', i.relname::text, null,
       array(
           select '(' || pg_get_indexdef(x.indexrelid, place, true) || ')'
                  || case when x.indcollation[place - 1] in (0, a.attcollation) then ''
                          else ' collate ' || quote_ident(l.collnamespace::regnamespace::text) || '.' || quote_ident(l.collname) end
             from generate_series(1, x.indnkeyatts) as place
             left join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[place - 1] and a.attnum > 0
             left join pg_collation as l on l.oid = x.indcollation[place - 1]
            order by place),
       pg_get_expr(x.indpred, x.indrelid), not x.indnullsnotdistinct
  from target
  join pg_index as x on x.indrelid = target.oid and x.indisunique and x.indisvalid
  join pg_class as i on i.oid = x.indexrelid
union all
select 'other', k.conname::text, null, '{}', null, true
  from target
  join pg_constraint as k on k.conrelid = target.oid and k.contype in ('f', 'x')
 order by kind, name
