-- journey/copy_status: how far an attempt's copy is.
-- params:  $1 int attempt
-- returns: tables bigint, tables_done bigint, rows bigint, bytes bigint
-- majors:  15-18
select count(*) as tables, count(*) filter (where state = 'done') as tables_done,
       coalesce(sum(rows), 0)::bigint as rows, coalesce(sum(bytes), 0)::bigint as bytes
from migrate.copy_table where attempt = $1
