-- ddl/read_constraint: whether a constraint of a table is proved for all rows.
-- params:  $1 text schema, $2 text table, $3 text constraint
-- returns: validated bool; no row when there is no such constraint
-- majors:  15-18
select o.convalidated as validated
  from pg_constraint o
  join pg_class c on c.oid = o.conrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2 and o.conname = $3
