-- rehearse/list_columns: the columns of every table and view, in order, with their types.
-- params:  none
-- returns: oid, schema, name, columns text[] of "name type"
-- majors:  15-18
select c.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       array(
           select a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           from pg_attribute a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           order by a.attnum) as columns
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and c.oid >= 16384
  and n.nspname not in ('pg_catalog', 'information_schema', 'migrate', 'pg_toast')
  and n.nspname !~ '^pg_(temp|toast_temp)_'
