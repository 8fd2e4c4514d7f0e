-- copy/mark_chunk: a range of a table is whole, as of a moment of blue.
-- params:  $1 attempt int, $2 table name text, $3 number int, $4 rows bigint, $5 bytes bigint, $6 snapshot text, $7 blue's log right after it text
-- returns: nothing
-- majors:  15-18
update migrate.copy_chunk
   set rows = $4, bytes = $5, xids = $6, seen_lsn = $7::text::pg_lsn
 where attempt = $1 and table_name = $2 and number = $3
