-- facts/list_newcomers: what is on this database besides what is known, and carried tables that no publication of ours has.
-- params:  $1 text[] kinds (relkind, persistence), $2 text[] schemas, $3 text[] names, pairwise the relations known; $4 text[] schemas, $5 text[] names, pairwise the tables carried; $6 text publication
-- returns: kind text ('large object', 'unpublished', else relkind and persistence), schema text, name text, owner_schema text, owner_name text
-- majors:  15-18
with relation as (
    select c.oid, n.nspname, c.relname,
           case when c.relkind in ('S', 'v', 'm') then c.relkind::text else c.relkind::text || c.relpersistence::text end as kind
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'f', 'S', 'v', 'm') and c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
)
select r.kind, r.nspname::text as schema, r.relname::text as name,
       o.nspname::text as owner_schema, o.relname::text as owner_name
from relation r
left join unnest($1::text[], $2::text[], $3::text[]) known (kind, schema_name, name)
    on known.kind = r.kind and known.schema_name = r.nspname and known.name = r.relname
-- A sequence's owner decides whether it is selected.
left join lateral (
    select tn.nspname, t.relname
    from pg_depend d
    join pg_class t on t.oid = d.refobjid
    join pg_namespace tn on tn.oid = t.relnamespace
    where r.kind = 'S' and d.classid = 'pg_class'::regclass and d.objid = r.oid and d.objsubid = 0
      and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    limit 1) o on true
where known.name is null
  and not exists (
      select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = r.oid and e.deptype = 'e')
union all
-- A table that was dropped and created again has its name and shape, but left the publication.
select 'unpublished', n.nspname, c.relname, null, null
from unnest($4::text[], $5::text[]) carried (schema_name, name)
join pg_namespace n on n.nspname = carried.schema_name
join pg_class c on c.relnamespace = n.oid and c.relname = carried.name
where not exists (
    select from pg_publication_rel p join pg_publication b on b.oid = p.prpubid
    where b.pubname = $6::text and p.prrelid = c.oid)
union all
(select 'large object', '', m.oid::text, null, null from pg_largeobject_metadata m limit 1)
order by 1, 2, 3
