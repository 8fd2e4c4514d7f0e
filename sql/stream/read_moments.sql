-- stream/read_moments: the moments of blue that copied rows are of: one for a table, or one for each range of its key.
-- params:  $1 attempt int
-- returns: table_name text (on blue), key_column text (null for a whole table), lower text, upper text, xids text, seen_lsn text; ranges in order
-- majors:  15-18
select table_name, null as key_column, null as lower, null as upper, xids, seen_lsn::text, 0 as number
  from migrate.copy_table
 where attempt = $1 and xids is not null
union all
select table_name, key_column, lower, upper, xids, seen_lsn::text, number
  from migrate.copy_chunk
 where attempt = $1 and xids is not null
 order by table_name, number
