-- journey/never_analyzed: tables with rows that were never analyzed, or were truncated since.
-- params:  $1 text[] quoted table names
-- returns: text[], each as it was given
-- majors:  15-18
select coalesce(array_agg(wanted.name order by wanted.name), '{}')
from unnest($1::text[]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
where c.reltuples < 0 and pg_relation_size(c.oid) > 0
