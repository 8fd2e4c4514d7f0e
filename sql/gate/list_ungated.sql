-- gate/list_ungated: tables made by the transaction that asks, without our gate's trigger.
-- params:  $1 oid[] the tables that were there before
-- returns: schema text, tbl text
-- majors:  15-18
select n.nspname::text as schema, c.relname::text as tbl
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and c.oid <> all ($1::oid[])
  and n.nspname not in ('migrate', 'information_schema') and n.nspname !~ '^pg_'
  and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'migrate_gate')
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2
