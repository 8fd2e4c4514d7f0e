-- revocation/read_slot: up to where the capture's slot on blue was confirmed.
-- params:  $1 text slot
-- returns: confirmed_flush_lsn text, version_num int; no row when there is no such slot in this database
-- majors:  15-18
select confirmed_flush_lsn::text as confirmed_flush_lsn,
       current_setting('server_version_num')::int as version_num
  from pg_replication_slots
 where slot_name = $1::text and database = current_database() and plugin = 'pgoutput'
