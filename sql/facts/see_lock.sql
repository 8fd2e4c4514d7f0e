-- facts/see_lock: whether somebody holds an advisory lock in this very database.
-- params:  $1 int: the key's upper half, $2 int: its lower half
-- returns: seen bool
-- majors:  15-18
select exists (
    select
    from pg_locks l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2
      and l.classid::bigint = $1::int & 4294967295 and l.objid::bigint = $2::int & 4294967295
      and l.database = (select oid from pg_database where datname = current_database())
) as seen
