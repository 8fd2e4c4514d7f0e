-- replicate/read_running: the oldest transaction that runs, and the next one.
-- params:  none
-- returns: oldest text, next text (ids with their epoch)
-- majors:  15-18
select pg_snapshot_xmin(pg_current_snapshot())::text as oldest, pg_snapshot_xmax(pg_current_snapshot())::text as next
