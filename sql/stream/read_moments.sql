-- stream/read_moments: the moment of blue that each copied table's rows are of.
-- params:  $1 attempt int
-- returns: table_name text (on blue), xids text, seen_lsn text
-- majors:  15-18
select table_name, xids, seen_lsn::text from migrate.copy_table where attempt = $1 and state = 'done'
