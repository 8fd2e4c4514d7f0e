-- rehearse/list_relations: every relation that is not the catalog's: its name, its file, how often this transaction read it whole.
-- params:  none
-- returns: oid, schema, name, kind (as pg_class.relkind), of_table (what an index, a TOAST table or an owned sequence
--          belongs to), file, scans
-- majors:  15-18
select c.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       c.relkind::text as kind,
       coalesce(x.indrelid, o.oid, s.refobjid) as of_table,
       c.relfilenode as file,
       case when c.relkind in ('r', 'm', 't') then coalesce(pg_stat_get_xact_numscans(c.oid), 0) else 0 end as scans
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_index x on x.indexrelid = c.oid
left join pg_class o on c.relkind = 't' and o.reltoastrelid = c.oid
left join pg_depend s on c.relkind = 'S' and s.classid = 'pg_class'::regclass and s.objid = c.oid
    and s.refclassid = 'pg_class'::regclass and s.deptype in ('a', 'i')
where c.oid >= 16384
  and n.nspname not in ('pg_catalog', 'information_schema', 'migrate')
  and n.nspname !~ '^pg_(temp|toast_temp)_'
