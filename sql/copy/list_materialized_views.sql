-- copy/list_materialized_views: materialized views, each after all it reads, directly or through other views.
-- params:  none
-- returns: schema text, view text, populated bool
-- majors:  15-18
with recursive reads (view, uses) as (
    select distinct r.ev_class, d.refobjid
      from pg_rewrite as r
      join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                         and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
), closure (view, uses) as (
    select view, uses from reads
    union
    select closure.view, reads.uses from closure join reads on reads.view = closure.uses
)
select n.nspname::text as schema, c.relname::text as view, c.relispopulated as populated
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 where c.relkind = 'm' and n.nspname <> 'migrate'
   and not exists (select from pg_depend as d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
 -- Whoever reads another reads all that the other reads, and the other besides.
 order by (select count(*) from closure where closure.view = c.oid), schema, view
