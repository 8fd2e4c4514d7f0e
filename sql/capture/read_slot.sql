-- capture/read_slot: a slot, and whether it still has what it needs.
-- params:  $1 text slot
-- returns: lost bool
-- majors:  15-18
select coalesce(wal_status = 'lost', false) as lost from pg_replication_slots where slot_name = $1
