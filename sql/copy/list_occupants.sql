-- copy/list_occupants: relations in some schemas that are neither an extension's nor ours.
-- params:  $1 schemas text[]
-- returns: relation text
-- majors:  15-18
select n.nspname || '.' || c.relname as relation
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 where n.nspname = any ($1)
   and n.nspname <> 'migrate'
   and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   and not exists (select from pg_depend as d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
 order by relation
