-- copy/list_kinds: how to name tables in TRUNCATE; those that do not exist are left out.
-- params:  $1 schemas text[], $2 tables text[], of equal length
-- returns: target text
-- majors:  15-18
select distinct case c.relkind when 'r' then 'only ' else '' end || format('%I.%I', n.nspname, c.relname) as target
  from unnest($1::text[], $2::text[]) as u (schema, tbl)
  join pg_namespace as n on n.nspname = u.schema
  join pg_class as c on c.relnamespace = n.oid and c.relname = u.tbl
 where c.relkind in ('r', 'p')
 order by target
