-- facts/read_objects: what rests on tables: views, triggers, partition bounds, types, policies, statistics.
-- params:  none
-- returns: facts text: a JSON object of the shape of facts::Objects
-- majors:  15-18
with recursive place as (
    select oid, nspname, case when nspname ~ '[."]' then quote_ident(nspname) else nspname end || '.' as prefix
    from pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'migrate')
),
relation as (
    select c.oid, c.relkind, c.reloptions, c.relowner, c.relacl, c.relispopulated, c.relispartition, c.relpartbound,
           c.reloftype, n.prefix || c.relname as name, format('%I.%I', n.nspname, c.relname) as quoted
    from pg_class c
    join place n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'f', 'v', 'm')
      and not exists (
          select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
),
used as (
    select w.ev_class as oid, d.refobjid,
           coalesce(jsonb_agg(a.attname order by a.attnum) filter (where a.attname is not null), '[]') as columns
    from pg_rewrite w
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
     and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
    left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid and d.refobjsubid > 0
    where w.rulename = '_RETURN'
    group by 1, 2
),
own_type as (
    select t.oid, t.typtype, t.typrelid, n.prefix || t.typname as name
    from pg_type t
    join place n on n.oid = t.typnamespace
    left join pg_class c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'c', 'r', 'm', 'b') and (t.typrelid = 0 or c.relkind = 'c')
      and not (t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc)
      and not exists (
          select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
),
-- A type, and every type made of it: arrays, domains over it, composite types with it as an attribute.
made_of (root, oid) as (
    select oid, oid from own_type
    union
    select m.root, t.oid
    from made_of m
    join pg_type t on t.typbasetype = m.oid
        or (t.typelem = m.oid and t.typsubscript = 'array_subscript_handler'::regproc)
        or (t.typrelid <> 0 and exists (
            select from pg_attribute a join pg_class c on c.oid = a.attrelid
            where a.attrelid = t.typrelid and a.atttypid = m.oid and c.relkind = 'c' and not a.attisdropped))
)
select jsonb_build_object(
    'views', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', v.name,
            'materialized', v.relkind = 'm',
            'refreshable', v.relkind = 'm' and v.relispopulated and exists (
                select from pg_index x
                where x.indrelid = v.oid and x.indisunique and x.indisvalid and x.indimmediate
                  and x.indpred is null and x.indexprs is null),
            'recreate', jsonb_build_array(format('create %sview %s%s as %s',
                case v.relkind when 'm' then 'materialized ' else '' end, v.quoted,
                coalesce(' with (' || array_to_string(v.reloptions, ', ') || ')', ''),
                rtrim(pg_get_viewdef(v.oid), ';')))
                || coalesce((
                    select jsonb_agg(statement order by step, statement)
                    from (
                        select 1 as step, format('alter %sview %s owner to %I',
                            case v.relkind when 'm' then 'materialized ' else '' end, v.quoted,
                            pg_get_userbyid(v.relowner)) as statement
                        union all
                        select 2, format('alter view %s alter column %I set default %s', v.quoted, a.attname,
                            pg_get_expr(d.adbin, d.adrelid))
                        from pg_attrdef d
                        join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
                        where d.adrelid = v.oid
                        union all
                        select 3, pg_get_ruledef(w.oid) from pg_rewrite w
                        where w.ev_class = v.oid and w.rulename <> '_RETURN'
                        union all
                        select 4, pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid = v.oid and not t.tgisinternal
                        union all
                        select 5, format('comment on %sview %s is %L',
                            case v.relkind when 'm' then 'materialized ' else '' end, v.quoted, o.description)
                        from pg_description o
                        where o.classoid = 'pg_class'::regclass and o.objoid = v.oid and o.objsubid = 0
                        union all
                        select 6, format('comment on column %s.%I is %L', v.quoted, a.attname, o.description)
                        from pg_description o
                        join pg_attribute a on a.attrelid = o.objoid and a.attnum = o.objsubid
                        where o.classoid = 'pg_class'::regclass and o.objoid = v.oid and o.objsubid > 0
                        union all
                        select 7, format('grant %s%s on %s to %s%s', g.privilege_type,
                            coalesce(' (' || quote_ident(g.attname) || ')', ''), v.quoted,
                            case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
                            case when g.is_grantable then ' with grant option' else '' end)
                        from (
                            select e.grantee, e.privilege_type, e.is_grantable, null::name as attname
                            from aclexplode(v.relacl) e
                            union all
                            select e.grantee, e.privilege_type, e.is_grantable, a.attname
                            from pg_attribute a cross join lateral aclexplode(a.attacl) e
                            where a.attrelid = v.oid
                        ) g
                        where g.grantee <> v.relowner
                    ) again), '[]'),
            'reads', coalesce((
                select jsonb_agg(jsonb_build_object('relation', r.name, 'columns', u.columns) order by r.name collate "C")
                from used u join relation r on r.oid = u.refobjid
                where u.oid = v.oid), '[]'))
            order by v.name collate "C")
        from relation v where v.relkind in ('v', 'm')), '[]'),
    'triggers', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', t.tgname, 'table', r.name,
            'function', case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || p.proname)
            order by r.name collate "C", t.tgname collate "C")
        from pg_trigger t
        join relation r on r.oid = t.tgrelid
        join pg_proc p on p.oid = t.tgfoid
        join pg_namespace n on n.oid = p.pronamespace
        where not t.tgisinternal and t.tgparentid = 0 and n.nspname <> 'migrate'), '[]'),
    'partitioned', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', r.name,
            'strategy', case k.partstrat when 'r' then 'range' when 'l' then 'list' else 'hash' end,
            'columns', case when 0 = any (k.partattrs::int2[]) then '[]' else (
                select jsonb_agg(a.attname order by p.place)
                from unnest(k.partattrs::int2[]) with ordinality p(attnum, place)
                join pg_attribute a on a.attrelid = r.oid and a.attnum = p.attnum) end,
            'default_partition', (select d.name from relation d where d.oid = k.partdefid),
            'constraint', case when r.relispartition then pg_get_partition_constraintdef(r.oid) end)
            order by r.name collate "C")
        from relation r join pg_partitioned_table k on k.partrelid = r.oid), '[]'),
    'bounds', coalesce((
        select jsonb_agg(jsonb_build_object('partition', r.name, 'bound', pg_get_expr(r.relpartbound, r.oid))
            order by r.name collate "C")
        from relation r where r.relispartition), '[]'),
    'types', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', t.name,
            'kind', case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'c' then 'composite' else 'other' end,
            'used_by', coalesce((
                select jsonb_agg(jsonb_build_object('relation', u.name, 'columns', u.columns) order by u.name collate "C")
                from (
                    select r.name, jsonb_agg(a.attname order by a.attnum) as columns
                    from pg_attribute a
                    join relation r on r.oid = a.attrelid
                    where a.attnum > 0 and not a.attisdropped
                      and a.atttypid in (select m.oid from made_of m where m.root = t.oid)
                    group by 1
                ) u), '[]'),
            'typed_tables', coalesce((
                select jsonb_agg(r.name order by r.name collate "C") from relation r where r.reloftype = t.oid), '[]'))
            order by t.name collate "C")
        from own_type t), '[]'),
    'policies', coalesce((
        select jsonb_agg(r.name order by r.name collate "C")
        from relation r where exists (select from pg_policy p where p.polrelid = r.oid)), '[]'),
    'crowded_schemas', coalesce((
        select jsonb_agg(n.nspname order by n.nspname collate "C")
        from place n
        where exists (
            select from pg_depend d
            where d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.deptype = 'n'
              and (d.classid <> 'pg_class'::regclass
                   or (select c.relkind not in ('r', 'p', 'v', 'm', 'S', 'i', 'I') from pg_class c where c.oid = d.objid))
              -- The row type of a table, and its array.
              and not exists (select from pg_type t where d.classid = 'pg_type'::regclass and t.oid = d.objid
                              and exists (select from pg_class c where c.relkind <> 'c' and c.oid in (
                                  t.typrelid, (select e.typrelid from pg_type e where e.oid = t.typelem)))))), '[]'),
    'statistics', coalesce((
        select jsonb_agg(jsonb_build_object('name', n.prefix || s.stxname, 'table', r.name)
            order by (n.prefix || s.stxname) collate "C")
        from pg_statistic_ext s
        join place n on n.oid = s.stxnamespace
        join relation r on r.oid = s.stxrelid), '[]')
)::text as facts
