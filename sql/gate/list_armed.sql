-- gate/list_armed: every table with our gate's trigger, under its name of now.
-- params:  none
-- returns: schema text, tbl text
-- majors:  15-18
select n.nspname::text as schema, c.relname::text as tbl
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where t.tgname = 'migrate_gate' and t.tgfoid = to_regproc('migrate.gate_check') and t.tgparentid = 0
order by 1, 2
