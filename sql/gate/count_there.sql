-- gate/count_there: how many of these tables exist, partitioned ones counted too.
-- params:  $1 text[] quoted table names
-- returns: bigint
-- majors:  15-18
select count(*)
from unnest($1::text[]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
where c.relkind in ('r', 'p')
