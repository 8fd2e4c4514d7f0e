-- facts/list_shape: the shape of some tables and of what hangs on them, a line for each part; compared with the same side's earlier lines,
--   and its digest with the same side's earlier digest.
-- params:  $1 text[]: schemas, $2 text[]: names, pairwise the tables
-- returns: kind text, relation text (of an enum or domain, the oid of the type), object text, detail text[]
-- majors:  15-18
with wanted as (
    select c.oid, n.nspname || '.' || c.relname as name, c.relkind, c.relreplident, c.relpersistence, c.relrowsecurity
    from unnest($1::text[], $2::text[]) w(schema_name, table_name)
    join pg_namespace n on n.nspname = w.schema_name
    join pg_class c on c.relnamespace = n.oid and c.relname = w.table_name
    where c.relkind in ('r', 'p', 'f')
),
type_used as (
    select distinct case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem else t.oid end as oid
    from wanted w
    join pg_attribute a on a.attrelid = w.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
)
select 'table' as kind, name as relation, name as object,
       array[relkind::text, relreplident::text, relpersistence::text, relrowsecurity::text] as detail
from wanted
union all
select 'column', w.name, a.attname::text,
       array[a.attnum::text, format_type(a.atttypid, a.atttypmod), a.attnotnull::text, a.attgenerated::text, a.attidentity::text,
             a.attcollation::text, pg_get_expr(d.adbin, d.adrelid)]
from wanted w
join pg_attribute a on a.attrelid = w.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
union all
select 'constraint', w.name, o.conname::text, array[o.contype::text, pg_get_constraintdef(o.oid), o.convalidated::text]
from wanted w join pg_constraint o on o.conrelid = w.oid
union all
select 'index', w.name, i.relname::text,
       array[pg_get_indexdef(x.indexrelid), x.indisvalid::text,
             (x.indisunique or x.indisexclusion or x.indisprimary or x.indisreplident)::text]
from wanted w join pg_index x on x.indrelid = w.oid join pg_class i on i.oid = x.indexrelid
union all
-- Our gate arms and disarms tables all the time; that is no change of theirs.
select 'trigger', w.name, t.tgname::text, array[pg_get_triggerdef(t.oid), t.tgenabled::text]
from wanted w
join pg_trigger t on t.tgrelid = w.oid and not t.tgisinternal
join pg_proc p on p.oid = t.tgfoid
where p.pronamespace is distinct from to_regnamespace('migrate')
union all
select 'rule', w.name, r.rulename::text, array[pg_get_ruledef(r.oid), r.ev_enabled::text]
from wanted w join pg_rewrite r on r.ev_class = w.oid
union all
select 'parent', w.name, h.inhparent::text, array[pg_get_expr(c.relpartbound, c.oid)]
from wanted w join pg_inherits h on h.inhrelid = w.oid join pg_class c on c.oid = w.oid
union all
-- A partition we do not know is a change of its parent.
select 'child', w.name, h.inhrelid::text, array[]::text[]
from wanted w join pg_inherits h on h.inhparent = w.oid
union all
select 'enum', e.enumtypid::text, e.enumlabel::text, array[e.enumsortorder::text]
from type_used u join pg_enum e on e.enumtypid = u.oid
union all
select 'domain', o.contypid::text, o.conname::text, array[pg_get_constraintdef(o.oid)]
from type_used u join pg_constraint o on o.contypid = u.oid
