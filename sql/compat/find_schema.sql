-- compat/find_schema: whether a schema of this name says that it is ours; no row when there is none.
-- params:  $1 text the schema, $2 text what the comment of ours says
-- returns: is_ours bool
-- majors:  15-18
select obj_description(n.oid, 'pg_namespace') is not distinct from $2 as is_ours
  from pg_namespace n
 where n.nspname = $1
