-- stream/read_columns: the columns of a table we write to, as far as writing depends on them.
-- params:  $1 schema (text), $2 table (text)
-- returns: name (text), is_generated (boolean), is_identity_always (boolean), is_key (boolean: of the primary key); no row when there is no such table
-- majors:  15-18
select a.attname::text,
       a.attgenerated <> '',
       a.attidentity = 'a',
       coalesce(a.attnum = any (i.indkey), false)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
where n.nspname = $1
  and c.relname = $2
order by a.attnum
