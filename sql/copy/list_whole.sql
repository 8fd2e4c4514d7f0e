-- copy/list_whole: the tables that an attempt has copied whole, by their names on blue.
-- params:  $1 attempt int
-- returns: table_name text
-- majors:  15-18
select table_name from migrate.copy_table where attempt = $1 and state = 'done'
