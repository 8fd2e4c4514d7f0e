-- journey/list_copied: what the copy of each table came to, the biggest first.
-- params:  $1 attempt int
-- returns: table_name text, rows bigint, bytes bigint, took_ms bigint
-- majors:  15-18
select table_name, rows, bytes, coalesce(took_ms, 0) as took_ms
  from migrate.copy_table
 where attempt = $1 and state = 'done'
 order by bytes desc, table_name
