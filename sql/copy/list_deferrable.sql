-- copy/list_deferrable: indexes and constraints of tables and of the partition trees they belong to, but for those that something else needs.
-- params:  $1 schemas text[], $2 tables text[], of equal length
-- returns: table_name text (schema quoted when it holds a dot or quote), schema text, tbl text, name text, kind text, definition text (a script that makes it again, each statement ended by `;`), depth int; a row an object, foreign keys first, then parents before children
-- majors:  15-18
with recursive asked as (
    select c.oid
      from unnest($1::text[], $2::text[]) as u (schema, tbl)
      join pg_namespace as n on n.nspname = u.schema
      join pg_class as c on c.relnamespace = n.oid and c.relname = u.tbl
), up as (
    select oid from asked
    union
    select i.inhparent
      from up
      join pg_inherits as i on i.inhrelid = up.oid
      join pg_class as c on c.oid = up.oid and c.relispartition
), family as (
    select oid from up
    union
    select i.inhrelid
      from family
      join pg_inherits as i on i.inhparent = family.oid
      join pg_class as c on c.oid = i.inhrelid and c.relispartition
), relation as (
    select c.oid, c.relkind, n.nspname as schema, c.relname as tbl,
           case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname as table_name,
           format('%I.%I', n.nspname, c.relname) as sql_name,
           (with recursive above as (
                select c.oid, 0 as depth
                union all
                select i.inhparent, above.depth + 1 from above join pg_inherits as i on i.inhrelid = above.oid)
            select max(depth) from above) as depth
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
), climb (index, at) as (
    select x.indexrelid, x.indexrelid from pg_index as x join family as f on f.oid = x.indrelid
    union all
    select climb.index, i.inhparent from climb join pg_inherits as i on i.inhrelid = climb.at
), tree as (
    select index, at as root from climb where not exists (select from pg_inherits as i where i.inhrelid = climb.at)
), index_constraint as (
    select oid, conindid, contype from pg_constraint where contype in ('p', 'u', 'x')
), kept as (
    -- A tree stays whole when any part of it is a replica identity by its name, or when something that is no foreign key
    -- needs it, as a view that groups by a primary key does.
    select tree.root
      from tree
      join pg_index as x on x.indexrelid = tree.index
      left join index_constraint as k on k.conindid = x.indexrelid
     where x.indisreplident
        or exists (select from pg_depend as d
                    where d.deptype = 'n'
                      and (d.refclassid = 'pg_class'::regclass and d.refobjid = x.indexrelid
                           or d.refclassid = 'pg_constraint'::regclass and d.refobjid = k.oid)
                      and not (d.classid = 'pg_constraint'::regclass
                               and exists (select from pg_constraint as f where f.oid = d.objid and f.contype = 'f')))
), index_object as (
    select r.table_name, r.schema, r.tbl, i.relname as name,
           case k.contype when 'p' then 'primary_key' when 'u' then 'unique' when 'x' then 'exclusion' else 'index' end as kind,
           concat_ws(E'\n',
               (select format('set local default_tablespace = %I;', s.spcname) from pg_tablespace as s where s.oid = i.reltablespace),
               case when k.oid is null then pg_get_indexdef(i.oid) || ';'
                    else format('alter table only %s add constraint %I %s;', r.sql_name, i.relname, pg_get_constraintdef(k.oid)) end,
               (select string_agg(format('alter index %I.%I attach partition %I.%I;', r.schema, i.relname, cn.nspname, ci.relname), E'\n' order by ci.oid)
                  from pg_inherits as h
                  join pg_class as ci on ci.oid = h.inhrelid
                  join pg_namespace as cn on cn.oid = ci.relnamespace
                 where h.inhparent = i.oid),
               (select string_agg(format('alter index %I.%I alter column %s set statistics %s;', r.schema, i.relname, a.attnum, a.attstattarget), E'\n' order by a.attnum)
                  from pg_attribute as a
                 where a.attrelid = i.oid and a.attnum > 0 and a.attstattarget >= 0),
               case when x.indisclustered then format('alter table only %s cluster on %I;', r.sql_name, i.relname) end,
               (select format('comment on index %I.%I is %L;', r.schema, i.relname, d) from obj_description(i.oid, 'pg_class') as d where d is not null),
               (select format('comment on constraint %I on %s is %L;', i.relname, r.sql_name, d) from obj_description(k.oid, 'pg_constraint') as d where d is not null)
           ) as definition,
           r.depth, 1 as rank
      from tree
      join pg_index as x on x.indexrelid = tree.index
      join pg_class as i on i.oid = x.indexrelid
      join relation as r on r.oid = x.indrelid
      left join index_constraint as k on k.conindid = x.indexrelid
     where tree.root not in (select root from kept)
), check_object as (
    select r.table_name, r.schema, r.tbl, k.conname as name, 'check' as kind,
           concat_ws(E'\n',
               format('alter table %s add constraint %I %s;', r.sql_name, k.conname, pg_get_constraintdef(k.oid)),
               (select format('comment on constraint %I on %s is %L;', k.conname, r.sql_name, d) from obj_description(k.oid, 'pg_constraint') as d where d is not null)
           ) as definition,
           r.depth, 2 as rank
      from pg_constraint as k
      join family as f on f.oid = k.conrelid
      join relation as r on r.oid = k.conrelid
     where k.contype = 'c'
       and k.conislocal
       -- What a parent that we leave alone hands down cannot be dropped here.
       and not exists (select from pg_inherits as h
                         join pg_constraint as pk on pk.conrelid = h.inhparent and pk.contype = 'c' and pk.conname = k.conname
                        where h.inhrelid = k.conrelid and h.inhparent not in (select oid from family))
), foreign_key as (
    select r.table_name, r.schema, r.tbl, k.conname as name, 'foreign_key' as kind,
           -- NOT VALID and a later VALIDATE, so that several are proved at once; before 18 a partitioned table cannot.
           case when k.convalidated and (r.relkind = 'r' or current_setting('server_version_num')::int >= 180000)
                     and pg_get_constraintdef(k.oid) !~ 'NOT ENFORCED$'
                then concat_ws(E'\n',
                         format('alter table %s add constraint %I %s not valid;', r.sql_name, k.conname, pg_get_constraintdef(k.oid)),
                         remark.statement,
                         '-- in a transaction of its own:',
                         format('alter table %s validate constraint %I;', r.sql_name, k.conname))
                else concat_ws(E'\n',
                         format('alter table %s add constraint %I %s;', r.sql_name, k.conname, pg_get_constraintdef(k.oid)),
                         remark.statement)
           end as definition,
           r.depth, 0 as rank
      from pg_constraint as k
      join relation as r on r.oid = k.conrelid
      left join lateral (
          select format('comment on constraint %I on %s is %L;', k.conname, r.sql_name, d) as statement
            from obj_description(k.oid, 'pg_constraint') as d where d is not null) as remark on true
     where k.contype = 'f'
       and k.conparentid = 0
       and (k.conrelid in (select oid from family) or k.confrelid in (select oid from family))
)
select table_name::text, schema::text, tbl::text, name::text, kind, definition, depth
  from (select * from index_object union all select * from check_object union all select * from foreign_key) as o
 order by rank, depth, table_name, name
