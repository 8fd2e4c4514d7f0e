-- rehearse/list_leftovers: databases of rehearsals whose owner is gone: nobody holds the advisory lock that is in the name.
-- params:  $1 text what the names begin with, $2 text what our comments begin with, $3 int8 the first key of the locks
-- returns: name
-- majors:  15-18
with ours as (
    select d.datname, ('x' || right(d.datname, 8))::bit(32)::bigint as number
    from pg_database d
    where starts_with(d.datname, $1)
      and substr(d.datname, length($1) + 1) ~ '^[0-9a-f]{8}$'
      and not d.datistemplate
      -- One that was made a moment before its owner died has no comment yet.
      and starts_with(coalesce(shobj_description(d.oid, 'pg_database'), $2), $2)
      and pg_has_role(d.datdba, 'member')
)
select ours.datname::text as name
from ours
where not exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.classid::bigint = $3 and l.objid::bigint = ours.number)
