-- copy/mark_table: the state of one table of the copy.
-- params:  $1 attempt int, $2 table name text, $3 state text, $4 rows bigint, $5 bytes bigint
-- returns: nothing
-- majors:  15-18
insert into migrate.copy_table as mine (attempt, table_name, state, rows, bytes, changed_at)
values ($1, $2, $3, $4, $5, clock_timestamp())
on conflict (attempt, table_name) do update
   set state = excluded.state, rows = excluded.rows, bytes = excluded.bytes, changed_at = excluded.changed_at
