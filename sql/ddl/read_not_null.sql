-- ddl/read_not_null: whether a column is NOT NULL.
-- params:  $1 text schema, $2 text table, $3 text column
-- returns: not_null bool; no row when there is no such column
-- majors:  15-18
select a.attnotnull as not_null
  from pg_attribute a
  join pg_class c on c.oid = a.attrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2 and a.attname = $3 and a.attnum > 0 and not a.attisdropped
