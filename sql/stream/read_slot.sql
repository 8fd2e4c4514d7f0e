-- stream/read_slot: the state of a slot on the server that keeps it.
-- params:  $1 slot name (text)
-- returns: wal_status (text or null), confirmed (text or null), retained_bytes (bigint), wal_end (text), clock in microseconds since 1970 (bigint); no row when it does not exist
-- majors:  15-18
select s.wal_status,
       s.confirmed_flush_lsn::text,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
       pg_current_wal_lsn()::text,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint
from pg_catalog.pg_replication_slots s
where s.slot_name = $1
