-- facts/read_target: the columns of a table that mapped rows are written to.
-- params:  $1 schema text, $2 table text
-- returns: name text, type_name text, must_be_given bool (NOT NULL, and nothing fills it), generated bool, identity_always bool; in order
-- majors:  15-18
select a.attname::text as name,
       format_type(a.atttypid, a.atttypmod) as type_name,
       a.attnotnull and not a.atthasdef and a.attidentity = '' as must_be_given,
       a.attgenerated <> '' as generated,
       a.attidentity = 'a' as identity_always
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')
 order by a.attnum
