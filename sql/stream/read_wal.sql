-- stream/read_wal: how far green's log is written and flushed; a commit written before is durable once flushed passes it.
-- params:  none
-- returns: inserted (text), flushed (text)
-- majors:  15-18
select pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text
