-- copy/list_objects: every object somebody created in this database, system, extensions' and ours left out.
-- params:  none
-- returns: class oid (its catalog), oid oid, identity text, indexed oid (of an index: its table); in the order of class and oid
-- majors:  15-18
with candidate (class, oid) as (
    select tableoid, oid from pg_namespace
    union all select tableoid, oid from pg_extension
    union all select tableoid, oid from pg_class where relpersistence <> 't' and relkind <> 't'
    union all select tableoid, oid from pg_type
    union all select tableoid, oid from pg_proc
    union all select tableoid, oid from pg_operator
    union all select tableoid, oid from pg_opclass
    union all select tableoid, oid from pg_opfamily
    union all select tableoid, oid from pg_collation
    union all select tableoid, oid from pg_conversion
    union all select tableoid, oid from pg_cast
    union all select tableoid, oid from pg_transform
    union all select tableoid, oid from pg_language
    union all select tableoid, oid from pg_am
    union all select tableoid, oid from pg_ts_config
    union all select tableoid, oid from pg_ts_dict
    union all select tableoid, oid from pg_ts_parser
    union all select tableoid, oid from pg_ts_template
    union all select tableoid, oid from pg_statistic_ext
    union all select tableoid, oid from pg_foreign_data_wrapper
    union all select tableoid, oid from pg_foreign_server
    union all select tableoid, oid from pg_event_trigger
)
select c.class, c.oid, o.type || ' ' || o.identity as identity,
       (select i.indrelid from pg_index as i where c.class = 'pg_class'::regclass and i.indexrelid = c.oid) as indexed
  from candidate as c
 cross join lateral pg_identify_object(c.class, c.oid, 0) as o
 where c.oid >= 16384
   and o.identity is not null
   and o.schema is distinct from 'migrate'
   and not (o.type = 'schema' and o.name = 'migrate')
   and coalesce(o.schema, '') !~ '^pg_(temp|toast)'
   and not (o.type = 'schema' and o.name ~ '^pg_(temp|toast)')
   -- Parts of another object (row types, array types, indexes of constraints, leaves of indexes) and of extensions.
   and not exists (select from pg_depend as d
                    where d.classid = c.class and d.objid = c.oid and d.objsubid = 0
                      and d.deptype in ('i', 'e', 'P', 'S'))
 order by c.class, c.oid
