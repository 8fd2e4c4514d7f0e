-- facts/read_surroundings: what pg_dump of one database leaves behind or brings along: roles, settings, event triggers.
-- params:  none
-- returns: facts text: one JSON object with those fields of ServerFacts
-- majors:  15-18
with here as (
    select oid from pg_database where datname = current_database()
),
relation as (
    select c.oid, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity,
           n.nspname || '.' || c.relname as plain,
           case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
      and not exists (
          select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
),
named as (
    -- The superuser of initdb is written down nowhere but in the objects themselves.
    select relowner as role, 'owns objects' as how from relation
    union
    select d.refobjid,
           case d.deptype when 'o' then 'owns objects' when 'r' then 'is named by a policy' else 'is granted rights' end
    from pg_shdepend d
    where d.dbid = (select oid from here) and d.refclassid = 'pg_authid'::regclass and d.deptype in ('o', 'a', 'r')
      and d.classid not in ('pg_publication'::regclass, 'pg_largeobject'::regclass)
      and not exists (
          select from pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e')
      and not exists (
          select from pg_class c
          where d.classid = 'pg_class'::regclass and c.oid = d.objid
            and (c.relpersistence = 't' or c.relnamespace = to_regnamespace('migrate')))
)
select jsonb_build_object(
    'roles', (select jsonb_agg(rolname order by rolname collate "C") from pg_roles),
    'roles_named', coalesce((
        select jsonb_object_agg(rolname, how)
        from (
            select r.rolname, string_agg(n.how, ', ' order by n.how collate "C") as how
            from named n
            join pg_roles r on r.oid = n.role
            group by r.rolname) by_role), '{}'),
    'database_settings', coalesce((
        select jsonb_object_agg(
                   case when s.setrole = 0 then '' else 'role ' || pg_get_userbyid(s.setrole) || ': ' end
                   || split_part(entry, '=', 1),
                   substr(entry, strpos(entry, '=') + 1))
        from pg_db_role_setting s
        cross join unnest(s.setconfig) entry
        where s.setdatabase = (select oid from here)), '{}'),
    'event_triggers', coalesce((
        select jsonb_agg(t.evtname order by t.evtname collate "C")
        from pg_event_trigger t
        where t.evtenabled <> 'D'
          and not exists (
              select from pg_depend e
              where e.classid = 'pg_event_trigger'::regclass and e.objid = t.oid and e.deptype = 'e')), '[]'),
    'text_ranges', coalesce((
        select jsonb_agg(r.name order by r.plain collate "C")
        from relation r
        join pg_partitioned_table p on p.partrelid = r.oid
        where p.partstrat = 'r' and 'pg_catalog."default"'::regcollation = any (p.partcollation)), '[]'),
    'forced_row_security', coalesce((
        select jsonb_agg(name order by plain collate "C")
        from relation where relrowsecurity and relforcerowsecurity), '[]')
)::text as facts
