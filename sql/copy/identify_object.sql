-- copy/identify_object: what to call an object in DROP.
-- params:  $1 catalog oid, $2 oid
-- returns: kind text, identity text; no row when it no longer exists
-- majors:  15-18
select case o.type when 'statistics object' then 'statistics' else o.type end as kind, o.identity
  from pg_identify_object($1, $2, 0) as o
 where o.identity is not null
