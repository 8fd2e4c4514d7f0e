-- gate/list_tables: every table there is.
-- params:  none
-- returns: oid[]
-- majors:  15-18
select coalesce(array_agg(oid), '{}') from pg_class where relkind in ('r', 'p')
