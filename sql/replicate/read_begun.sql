-- replicate/read_begun: what is there of an earlier copy on blue: our slot, if it can still be read from.
-- params:  $1 text slot
-- returns: confirmed text; no row when there is no such slot, or blue removed WAL it needs
-- majors:  15-18
select confirmed_flush_lsn::text as confirmed
  from pg_replication_slots
 where slot_name = $1 and wal_status <> 'lost' and confirmed_flush_lsn is not null
