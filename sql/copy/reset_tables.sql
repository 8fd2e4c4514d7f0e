-- copy/reset_tables: every table of the attempt that is not whole waits again, from nothing.
-- params:  $1 attempt int, $2 table names text[]
-- returns: nothing
-- majors:  15-18
insert into migrate.copy_table as mine (attempt, table_name, state)
select $1, name, 'waiting' from unnest($2::text[]) as t (name)
on conflict (attempt, table_name) do update
   set state = 'waiting', rows = 0, bytes = 0, changed_at = clock_timestamp()
 where mine.state <> 'done'
