-- copy/mark_table: a table is whole, as of a moment of blue; of none when its ranges have their own.
-- params:  $1 attempt int, $2 table name text, $3 rows bigint, $4 bytes bigint, $5 snapshot text or null, $6 blue's log right after it text or null, $7 how long it took in ms bigint
-- returns: nothing
-- majors:  15-18
insert into migrate.copy_table (attempt, table_name, state, rows, bytes, xids, seen_lsn, took_ms, changed_at)
values ($1, $2, 'done', $3, $4, $5, $6::text::pg_lsn, $7, clock_timestamp())
on conflict (attempt, table_name) do update
   set state = excluded.state, rows = excluded.rows, bytes = excluded.bytes,
       xids = excluded.xids, seen_lsn = excluded.seen_lsn, took_ms = excluded.took_ms, changed_at = excluded.changed_at
