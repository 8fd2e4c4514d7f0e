-- rehearse/see_owner: whether some session still holds a rehearsal's advisory lock.
-- params:  $1 int8 the first key, $2 int8 the second
-- returns: one row: alive
-- majors:  15-18
select exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.classid::bigint = $1 and l.objid::bigint = $2) as alive
