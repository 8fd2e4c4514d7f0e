-- facts/read_tables: every table, partitioned table, partition and foreign table that is not an extension's or ours.
-- params:  none
-- returns: facts text: a JSON object of the shape of facts::Table, a row for each table, sorted by name
-- majors:  15-18
select jsonb_build_object(
    'name', case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname,
    'kind', case c.relkind when 'r' then 'plain' when 'p' then 'partitioned' else 'foreign' end,
    'persistence', case c.relpersistence when 'u' then 'unlogged' else 'permanent' end,
    'identity', case c.relreplident
        when 'd' then to_jsonb('default'::text)
        when 'f' then to_jsonb('full'::text)
        when 'n' then to_jsonb('nothing'::text)
        -- An identity index that was dropped leaves 'i' behind, which then means nothing.
        else coalesce((
            select jsonb_build_object('index', i.relname)
            from pg_index x join pg_class i on i.oid = x.indexrelid
            where x.indrelid = c.oid and x.indisreplident), to_jsonb('nothing'::text)) end,
    'columns', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', a.attname,
            'type_name', format_type(a.atttypid, a.atttypmod),
            'not_null', a.attnotnull,
            'default', pg_get_expr(d.adbin, d.adrelid),
            'generated', case a.attgenerated when 's' then 'stored' when 'v' then 'virtual' else 'no' end,
            'identity', case a.attidentity when 'a' then 'always' when 'd' then 'by_default' else 'no' end,
            'besides', coalesce((
                select jsonb_agg(b.sql order by b.sql collate "C")
                from (
                    select format('comment on column %I.%I.%I is %L', n.nspname, c.relname, a.attname, t.description)
                    from pg_description t
                    where t.classoid = 'pg_class'::regclass and t.objoid = c.oid and t.objsubid = a.attnum
                    union all
                    select format('grant %s (%I) on %I.%I to %s%s', lower(g.privilege_type), a.attname, n.nspname, c.relname,
                                  coalesce(quote_ident(r.rolname), 'public'),
                                  case when g.is_grantable then ' with grant option' else '' end)
                    from aclexplode(a.attacl) g left join pg_roles r on r.oid = g.grantee
                    union all
                    select format('alter table %I.%I alter column %I set statistics %s',
                                  n.nspname, c.relname, a.attname, a.attstattarget)
                    where a.attstattarget >= 0
                    union all
                    select format('alter table %I.%I alter column %I set (%s)',
                                  n.nspname, c.relname, a.attname, array_to_string(o.options, ', '))
                    from (select array(select option from unnest(a.attoptions) option
                                       where option not like 'pg\_attver=%')) o(options)
                    where o.options <> '{}') b(sql)), '[]'))
            order by a.attnum)
        from pg_attribute a
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]'),
    'indexes', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', i.relname,
            'columns', coalesce((
                select jsonb_agg(a.attname order by k.place)
                from unnest(x.indkey::int2[]) with ordinality k(attnum, place)
                join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
                where k.place <= x.indnkeyatts), '[]'),
            'definition', pg_get_indexdef(x.indexrelid),
            'unique', x.indisunique,
            'primary', x.indisprimary,
            'immediate', x.indimmediate,
            'valid', x.indisvalid,
            'plain', x.indpred is null and x.indexprs is null,
            'constraint', (
                select o.conname from pg_constraint o
                where o.conindid = x.indexrelid and o.contype in ('p', 'u', 'x') limit 1),
            'parent', (
                select p.relname from pg_inherits h join pg_class p on p.oid = h.inhparent
                where h.inhrelid = x.indexrelid))
            order by i.relname collate "C")
        from pg_index x join pg_class i on i.oid = x.indexrelid
        where x.indrelid = c.oid), '[]'),
    'constraints', coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', o.conname,
            'kind', case o.contype
                when 'c' then 'check' when 'f' then 'foreign_key' when 'p' then 'primary_key' when 'u' then 'unique'
                when 'x' then 'exclusion' when 'n' then 'not_null' else 'trigger' end,
            'definition', pg_get_constraintdef(o.oid),
            'validated', o.convalidated,
            'deferrable', o.condeferrable,
            'inherited', o.conparentid <> 0 or o.coninhcount > 0,
            'index', (select i.relname from pg_class i where i.oid = o.conindid),
            'references', (
                select case when fn.nspname ~ '[."]' then quote_ident(fn.nspname) else fn.nspname end
                       || '.' || f.relname
                from pg_class f join pg_namespace fn on fn.oid = f.relnamespace
                where f.oid = o.confrelid))
            order by o.conname collate "C")
        from pg_constraint o
        where o.conrelid = c.oid), '[]'),
    'replica_triggers', coalesce((
        select jsonb_agg(name order by name collate "C")
        from (
            select t.tgname as name
            from pg_trigger t
            join pg_proc p on p.oid = t.tgfoid
            where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('A', 'R')
              and p.pronamespace is distinct from to_regnamespace('migrate')
            union
            select w.rulename from pg_rewrite w where w.ev_class = c.oid and w.ev_enabled in ('A', 'R')) acting), '[]'),
    'parent', (
        select case when pn.nspname ~ '[."]' then quote_ident(pn.nspname) else pn.nspname end || '.' || p.relname
        from pg_inherits h
        join pg_class p on p.oid = h.inhparent
        join pg_namespace pn on pn.oid = p.relnamespace
        where h.inhrelid = c.oid
        order by h.inhseqno limit 1),
    'is_partition', c.relispartition,
    'row_security', row_security_active(c.oid),
    'owned_by_us', pg_has_role(c.relowner, 'USAGE'),
    'readable', has_table_privilege(c.oid, 'SELECT'),
    'total_bytes', case when c.relkind = 'r' then coalesce(pg_total_relation_size(c.oid), 0) else 0 end,
    'heap_bytes', case when c.relkind = 'r' then coalesce(pg_table_size(c.oid), 0) else 0 end,
    'rows_estimate', c.reltuples::bigint,
    'has_rows', null
)::text as facts
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f')
  and c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
  and not exists (
      select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by n.nspname collate "C", c.relname collate "C"
