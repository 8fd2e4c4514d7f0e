-- copy/list_chunks: the ranges that a table is copied in.
-- params:  $1 attempt int, $2 table name text
-- returns: number int, key_column text, lower text, upper text, filenode text, whole bool, rows bigint, bytes bigint
-- majors:  15-18
select number, key_column, lower, upper, filenode, xids is not null as whole, rows, bytes
  from migrate.copy_chunk
 where attempt = $1 and table_name = $2
 order by number
