-- journey/slot_status: our slot on blue, and the end of blue's WAL.
-- params:  $1 text slot
-- returns: active bool, insert_lsn text, retained_bytes bigint
-- majors:  15-18
select active, pg_current_wal_insert_lsn()::text as insert_lsn,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint as retained_bytes
from pg_replication_slots where slot_name = $1
