-- copy/find_object: an index or constraint by its name, as it is now.
-- params:  $1 schema text, $2 table text, $3 name text, $4 is it a plain index bool
-- returns: definition text, valid bool; no row when there is none
-- majors:  15-18
select pg_get_indexdef(x.indexrelid) as definition, x.indisvalid as valid
  from pg_index as x
  join pg_class as i on i.oid = x.indexrelid
  join pg_namespace as n on n.oid = i.relnamespace
 where $4 and n.nspname = $1 and i.relname = $3
union all
select pg_get_constraintdef(k.oid), k.convalidated
  from pg_constraint as k
  join pg_class as c on c.oid = k.conrelid
  join pg_namespace as n on n.oid = c.relnamespace
 where not $4 and n.nspname = $1 and c.relname = $2 and k.conname = $3
