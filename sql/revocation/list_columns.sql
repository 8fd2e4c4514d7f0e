-- revocation/list_columns: a table's columns with their types, and whether the replica identity has them.
-- params:  $1 text schema, $2 text table
-- returns: name text, type_name text, in_identity bool; no row when there is no such table
-- majors:  15-18
select a.attname::text as name,
       format_type(a.atttypid, a.atttypmod) as type_name,
       case c.relreplident
           when 'f' then true
           when 'n' then false
           else coalesce(a.attnum = any (i.indkey), false)
       end as in_identity
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_index i on i.indrelid = c.oid and i.indisvalid and i.indimmediate
       and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end
 where n.nspname = $1::text and c.relname = $2::text and c.relkind in ('r', 'p')
 order by a.attnum
