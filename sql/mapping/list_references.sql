-- mapping/list_references: the foreign keys of a table, a row for each of their columns.
-- params:  $1 schema text, $2 table text
-- returns: name text, other_schema text, other_table text, is_full bool (MATCH FULL), why_not text (why no row is held against it, or null), column_name text, type_name text, filled bool (by a default, when it is not written), other_column text, other_type text, deterministic bool (equal values have equal bytes), equal text (migrate_key's column is migrate_row's)
-- majors:  15-18
select k.conname::text as name, fn.nspname::text as other_schema, f.relname::text as other_table,
       k.confmatchtype = 'f' as is_full,
       case when to_jsonb(k) ->> 'conenforced' = 'false' then 'green does not enforce it'
            when not k.convalidated then 'it is NOT VALID on green, and stays so'
            when to_jsonb(k) ->> 'conperiod' = 'true' then 'it is over periods'
       end as why_not,
       a.attname::text as column_name, format_type(a.atttypid, a.atttypmod) as type_name,
       a.attgenerated = '' and (a.atthasdef or a.attidentity <> '') as filled,
       b.attname::text as other_column, format_type(b.atttypid, b.atttypmod) as other_type,
       coalesce(l.collisdeterministic, true) as deterministic,
       format('migrate_key.%I operator(%I.%s) migrate_row.%I', b.attname, os.nspname, o.oprname, a.attname)
           || case when l.oid is null or a.attcollation = 0 then '' else format(' collate %s.%I', l.collnamespace::regnamespace, l.collname) end as equal
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_constraint as k on k.conrelid = c.oid and k.contype = 'f'
  join pg_class as f on f.oid = k.confrelid
  join pg_namespace as fn on fn.oid = f.relnamespace
 cross join lateral unnest(k.conkey, k.confkey, k.conpfeqop) with ordinality as p (own, other, operator, place)
  join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = p.own
  join pg_attribute as b on b.attrelid = k.confrelid and b.attnum = p.other
  join pg_operator as o on o.oid = p.operator
  join pg_namespace as os on os.oid = o.oprnamespace
  left join pg_collation as l on l.oid = b.attcollation
 where n.nspname = $1 and c.relname = $2
   -- One to a partitioned table is there once more for each partition.
   and not exists (select from pg_constraint as above where above.oid = k.conparentid and above.conrelid = k.conrelid)
 order by name, p.place
