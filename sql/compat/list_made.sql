-- compat/list_made: the views and functions in a schema that say that they are ours, views first.
-- params:  $1 text the schema, $2 text what the comment of ours says
-- returns: kind text (`view` or `function`), name text
-- majors:  15-18
select 'view' as kind, c.relname::text as name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relkind = 'v' and obj_description(c.oid, 'pg_class') = $2
 union all
select 'function', p.proname::text
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
 where n.nspname = $1 and p.pronargs = 0 and obj_description(p.oid, 'pg_proc') = $2
 order by kind desc, name
