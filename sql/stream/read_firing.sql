-- stream/read_firing: whether something on a table, or on a partition of it, fires for each change we write as a replica.
-- params:  $1 schema (text), $2 table (text)
-- returns: fires (boolean)
-- majors:  15-18
with written as (
    select c.oid
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1
      and c.relname = $2
),
reached as (
    select oid from written
    union
    select tree.relid::oid from written, pg_catalog.pg_partition_tree(written.oid) tree
)
select exists (select from pg_catalog.pg_trigger t join reached r on r.oid = t.tgrelid where t.tgenabled in ('A', 'R') and not t.tgisinternal)
    or exists (select from pg_catalog.pg_rewrite w join reached r on r.oid = w.ev_class where w.ev_enabled in ('A', 'R'))
