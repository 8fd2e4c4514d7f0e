-- ddl/read_index: what has an index's name, if anything.
-- params:  $1 text schema, $2 text name
-- returns: oid oid, is_index bool, table_schema text, table_name text, is_valid bool, is_unique bool, method text, partial bool,
--          keys text[] (null for an expression), definition text; no row when nothing has the name
-- majors:  15-18
select c.oid,
       i.indexrelid is not null as is_index,
       tn.nspname::text as table_schema,
       t.relname::text as table_name,
       coalesce(i.indisvalid and i.indisready and i.indislive, false) as is_valid,
       coalesce(i.indisunique, false) as is_unique,
       coalesce(am.amname::text, '') as method,
       i.indpred is not null as partial,
       array(select a.attname::text
               from generate_series(0, coalesce(i.indnkeyatts, 0) - 1) as key(at)
               left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[key.at] and a.attnum > 0
              order by key.at) as keys,
       coalesce(pg_get_indexdef(i.indexrelid), '') as definition
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indexrelid = c.oid
  left join pg_class t on t.oid = i.indrelid
  left join pg_namespace tn on tn.oid = t.relnamespace
  left join pg_am am on am.oid = c.relam
 where n.nspname = $1 and c.relname = $2
