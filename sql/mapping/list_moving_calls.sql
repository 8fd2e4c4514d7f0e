-- mapping/list_moving_calls: what the session's view migrate_expression calls that may give another value for the same rows. A query over several rows may do what mapping/list_unfit_calls refuses of an expression over one.
-- params:  none
-- returns: name text, why text; no row when all is well
-- majors:  15-18
-- The stored tree names every function by its oid, those of operators and casts too, as the server resolved them.
with tree as (
    select w.ev_action::text as action
      from pg_rewrite as w
     where w.ev_class = to_regclass('pg_temp.migrate_expression')
),
called as (
    select distinct m[1]::oid as oid
      from tree
     cross join lateral regexp_matches(action, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') as m
),
judged as (
    select p.proname::text as name,
           case
               when p.provolatile = 'v' then 'may give another value each time (volatile)'
               when p.provolatile = 's' and p.pronamespace <> 'pg_catalog'::regnamespace
                   then 'may give another value at another time (stable); mark it immutable if it does not'
               when p.provolatile = 's'
                    and (p.pronargs = 0
                         or p.proname ~ '^(pg_|has_|txid_|current_|inet_|to_reg|query_to_|table_to_|cursor_to_|schema_to_|database_to_|row_security|obj_|col_|shobj_)'
                         or p.proname = 'age' and p.pronargs = 1)
                   then 'depends on the time, the session or the server'
           end as why
      from called
      join pg_proc as p on p.oid = called.oid
    union all
    select node.name, node.why
      from tree
     cross join (values
               ('{SQLVALUEFUNCTION', 'current_timestamp or the like', 'depends on the time, the session or the server'),
               ('{NEXTVALUEEXPR', 'nextval', 'may give another value each time (volatile)')) as node (mark, name, why)
     where position(node.mark in action) > 0
)
select distinct name, why from judged where why is not null order by name, why
