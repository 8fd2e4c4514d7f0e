-- facts/read_lists: the shorter lists: extensions, schemas, views, slots, publications, transactions, standbys.
-- params:  none
-- returns: facts text: one JSON object with those list fields of ServerFacts
-- majors:  15-18
with member as (
    select objid from pg_depend where deptype = 'e' and classid = 'pg_class'::regclass
),
relation as (
    select c.oid, c.relkind, n.nspname || '.' || c.relname as plain,
           case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
      and c.oid not in (select objid from member)
)
select jsonb_build_object(
    'materialized_views', coalesce(
        (select jsonb_agg(name order by plain collate "C") from relation where relkind = 'm'), '[]'),
    'views', coalesce(
        (select jsonb_agg(name order by plain collate "C") from relation where relkind = 'v'), '[]'),
    'functions', coalesce((
        select jsonb_object_agg(name, volatility)
        from (
            select n.nspname || '.' || p.proname as name,
                   case max(case p.provolatile when 'v' then 2 when 's' then 1 else 0 end)
                       when 2 then 'volatile' when 1 then 'stable' else 'immutable' end as volatility
            from pg_proc p
            join pg_namespace n on n.oid = p.pronamespace
            where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
              and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
            group by 1) as worst), '{}'),
    'domains', coalesce((
        with recursive layer as (
            select t.oid, t.oid as below, t.typbasetype as base, t.typtypmod as typmod,
                   t.typnotnull or t.typdefault is not null
                   or exists (select from pg_constraint o where o.contypid = t.oid) as constrained
            from pg_type t
            where t.typtype = 'd'
            union all
            select l.oid, t.oid, t.typbasetype, t.typtypmod,
                   t.typnotnull or t.typdefault is not null
                   or exists (select from pg_constraint o where o.contypid = t.oid)
            from layer l join pg_type t on t.oid = l.base and t.typtype = 'd'
        )
        select jsonb_agg(jsonb_build_object(
                   'name', case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || t.typname,
                   'base', (select format_type(l.base, l.typmod) from layer l join pg_type b on b.oid = l.base
                            where l.oid = t.oid and b.typtype <> 'd'),
                   'constrained', (select bool_or(l.constrained) from layer l where l.oid = t.oid))
                   order by n.nspname collate "C", t.typname collate "C")
        from pg_type t
        join pg_namespace n on n.oid = t.typnamespace
        where t.typtype = 'd' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')), '[]'),
    'update_triggers', coalesce((
        select jsonb_agg(r.name order by r.plain collate "C")
        from relation r
        -- Bit 4 of tgtype is UPDATE.
        where exists (
            select from pg_trigger t
            join pg_proc p on p.oid = t.tgfoid
            where t.tgrelid = r.oid and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & 16 <> 0
              and p.pronamespace is distinct from to_regnamespace('migrate'))), '[]'),
    'viewed_columns', coalesce((
        select jsonb_agg(jsonb_build_object('table', t.name, 'column', a.attname, 'view', v.name)
                   order by t.plain collate "C", a.attnum, v.plain collate "C")
        from (
            select distinct d.refobjid, d.refobjsubid, w.ev_class
            from pg_depend d
            join pg_rewrite w on w.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
              and d.refobjsubid > 0 and d.refobjid <> w.ev_class) as used
        join relation t on t.oid = used.refobjid
        join relation v on v.oid = used.ev_class
        join pg_attribute a on a.attrelid = used.refobjid and a.attnum = used.refobjsubid), '[]'),
    'extensions', coalesce((select jsonb_object_agg(extname, extversion) from pg_extension), '{}'),
    'available_extensions', coalesce(
        (select jsonb_object_agg(name, default_version) from pg_available_extensions), '{}'),
    'schemas', coalesce((
        select jsonb_agg(nspname order by nspname collate "C") from pg_namespace
        where nspname !~ '^pg_' and nspname not in ('information_schema', 'migrate')), '[]'),
    'slots', coalesce((
        select jsonb_agg(jsonb_build_object(
                   'name', slot_name, 'plugin', plugin, 'database', database, 'active', active,
                   'wal_status', wal_status, 'confirmed_flush_lsn', confirmed_flush_lsn)
                   order by slot_name collate "C")
        from pg_replication_slots), '[]'),
    'publications', coalesce((select jsonb_agg(pubname order by pubname collate "C") from pg_publication), '[]'),
    'subscriptions', coalesce((
        select jsonb_agg(subname order by subname collate "C") from pg_subscription
        where subenabled and subdbid = (select oid from pg_database where datname = current_database())), '[]'),
    'prepared_transactions', coalesce((
        select jsonb_agg(jsonb_build_object(
                   'gid', gid, 'database', database,
                   'age_ms', greatest(0, extract(epoch from clock_timestamp() - prepared) * 1000)::bigint)
                   order by prepared)
        from pg_prepared_xacts), '[]'),
    'long_transactions', coalesce((
        select jsonb_agg(jsonb_build_object(
                   'pid', pid, 'database', coalesce(datname, ''), 'role', coalesce(usename, ''),
                   'application', coalesce(application_name, ''), 'state', coalesce(state, ''),
                   'age_ms', (extract(epoch from clock_timestamp() - xact_start) * 1000)::bigint,
                   'writes', backend_xid is not null)
                   order by xact_start)
        from pg_stat_activity
        where xact_start < clock_timestamp() - interval '1 second'
          and pid <> pg_backend_pid()
          and backend_type in ('client backend', 'logical replication worker', 'background worker')
          and application_name not like 'migrate: %'), '[]'),
    'standbys', coalesce((
        select jsonb_agg(coalesce(r.application_name, '') order by r.application_name collate "C")
        from pg_stat_replication r
        where r.state is distinct from 'backup'
          and not exists (
              select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')), '[]')
)::text as facts
