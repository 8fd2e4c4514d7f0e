-- facts/find_sequences: those of these names that are sequences.
-- params:  $1 text[] quoted names
-- returns: text[], each as it was given
-- majors:  15-18
select coalesce(array_agg(wanted.name), '{}')
from unnest($1::text[]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
where c.relkind = 'S'
