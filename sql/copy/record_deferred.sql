-- copy/record_deferred: an index or constraint that is about to be dropped. One that was rebuilt may be dropped again.
-- params:  $1 attempt int, $2 table name text, $3 name text, $4 kind text, $5 definition text
-- returns: nothing; no row is written when another object of that name is recorded and not rebuilt
-- majors:  15-18
insert into migrate.deferred_object as mine (attempt, table_name, name, kind, definition)
values ($1, $2, $3, $4, $5)
on conflict (attempt, table_name, kind, name) do update
   set kind = excluded.kind, definition = excluded.definition, rebuilt_at = null
 where mine.rebuilt_at is not null
