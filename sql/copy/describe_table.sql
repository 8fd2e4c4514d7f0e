-- copy/describe_table: a table's kind, its columns' types, and whether it was rewritten since this transaction's snapshot.
-- params:  $1 schema text, $2 table text
-- returns: kind text, rewritten bool, filenode text, column_name text, type_oid oid, generated bool; a row a column, one row with a null column_name when there is none
-- majors:  15-18
select c.relkind::text as kind,
       -- The left side is read with our snapshot, the right side is what is true now.
       c.relkind = 'r' and c.relfilenode is distinct from pg_relation_filenode(c.oid) as rewritten,
       pg_relation_filenode(c.oid)::text as filenode,
       a.attname::text as column_name,
       a.atttypid as type_oid,
       coalesce(a.attgenerated <> '', false) as generated
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = $1 and c.relname = $2
