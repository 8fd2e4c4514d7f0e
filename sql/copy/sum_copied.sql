-- copy/sum_copied: what an attempt's copy comes to.
-- params:  $1 attempt int
-- returns: tables bigint, rows bigint, bytes bigint
-- majors:  15-18
select count(*) as tables, coalesce(sum(rows), 0)::bigint as rows, coalesce(sum(bytes), 0)::bigint as bytes
  from migrate.copy_table
 where attempt = $1 and state = 'done'
