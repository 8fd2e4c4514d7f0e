-- copy/read_moment: what this transaction's snapshot sees, and blue's log right after it was taken.
-- params:  none
-- returns: xids text, seen_lsn text
-- majors:  15-18
select pg_current_snapshot()::text as xids, pg_current_wal_insert_lsn()::text as seen_lsn
