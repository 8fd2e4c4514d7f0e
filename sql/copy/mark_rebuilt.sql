-- copy/mark_rebuilt: a deferred object is there again.
-- params:  $1 attempt int, $2 table name text, $3 name text, $4 kind text
-- returns: nothing
-- majors:  15-18
update migrate.deferred_object
   set rebuilt_at = clock_timestamp()
 where attempt = $1 and table_name = $2 and name = $3 and kind = $4
