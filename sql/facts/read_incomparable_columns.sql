-- facts/read_incomparable_columns: columns whose type has no equality operator Postgres would find by itself.
-- params:  none
-- returns: facts text: a JSON object of the shape of facts::IncomparableColumn, sorted by table and column
-- majors:  15-18
with recursive place as (
    select a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypid as base
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
    union all
    -- Domains and arrays are as comparable as what they are made of.
    select p.attrelid, p.attname, p.attnum, p.atttypid, case when t.typtype = 'd' then t.typbasetype else t.typelem end
    from place p
    join pg_type t on t.oid = p.base
    where t.typtype = 'd' or (t.typcategory = 'A' and t.typelem <> 0)
)
select jsonb_build_object(
    'table', case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname,
    'column', p.attname,
    'type_name', format_type(p.atttypid, null)
)::text as facts
from place p
join pg_type t on t.oid = p.base
join pg_class c on c.oid = p.attrelid
join pg_namespace n on n.oid = c.relnamespace
where t.typtype not in ('d', 'e', 'c', 'r', 'm')
  and not (t.typcategory = 'A' and t.typelem <> 0)
  and not exists (
      select
      from pg_opclass o
      join pg_am m on m.oid = o.opcmethod
      where m.amname in ('btree', 'hash') and o.opcdefault
        and (o.opcintype = t.oid
             or exists (
                 select from pg_cast k
                 where k.castsource = t.oid and k.casttarget = o.opcintype and k.castmethod = 'b')))
order by n.nspname collate "C", c.relname collate "C", p.attnum
