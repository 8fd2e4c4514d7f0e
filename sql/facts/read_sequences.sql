-- facts/read_sequences: every sequence that is not an extension's or ours.
-- params:  none
-- returns: facts text: a JSON object of the shape of facts::Sequence, a row for each sequence, sorted by name
-- majors:  15-18
select jsonb_build_object(
    'name', case when n.nspname ~ '[."]' then quote_ident(n.nspname) else n.nspname end || '.' || c.relname,
    'owner', (
        select jsonb_build_array(
            case when tn.nspname ~ '[."]' then quote_ident(tn.nspname) else tn.nspname end || '.' || t.relname,
            a.attname)
        from pg_depend d
        join pg_class t on t.oid = d.refobjid
        join pg_namespace tn on tn.oid = t.relnamespace
        join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
          and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        limit 1),
    'data_type', format_type(s.seqtypid, null),
    'increment', s.seqincrement,
    'min', s.seqmin,
    'max', s.seqmax,
    'cache', s.seqcache,
    'cycle', s.seqcycle,
    -- Null when never called, and when we may not look.
    'last_value', case
        when has_sequence_privilege(c.oid, 'SELECT,USAGE') then pg_sequence_last_value(c.oid) end
)::text as facts
from pg_sequence s
join pg_class c on c.oid = s.seqrelid
join pg_namespace n on n.oid = c.relnamespace
where c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'migrate')
  and not exists (
      select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by n.nspname collate "C", c.relname collate "C"
