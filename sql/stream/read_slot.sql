-- stream/read_slot: the state of a slot on the server that keeps it, and of the publication it is read with.
-- params:  $1 slot name (text), $2 publication name (text)
-- returns: wal_status (text or null), confirmed (text or null), retained_bytes (bigint), wal_end (text), clock in microseconds since 1970 (bigint),
--          publishes_all (boolean: every kind of change; null when the publication does not exist); no row when the slot does not exist
-- majors:  15-18
select s.wal_status,
       s.confirmed_flush_lsn::text,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
       pg_current_wal_lsn()::text,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint,
       (select p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate
        from pg_catalog.pg_publication p
        where p.pubname = $2)
from pg_catalog.pg_replication_slots s
where s.slot_name = $1
