-- copy/read_load: what blue has to do besides us, and how far its physical standbys are behind.
-- params:  none
-- returns: sees_all bool (our role may see what sessions of others do), active_sessions bigint, lag_ms bigint, lag_bytes bigint (both of
--   the slowest standby; 0 without one)
-- majors:  15-18
select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all,
       (select count(*)
          from pg_stat_activity
         where backend_type = 'client backend'
           and state = 'active'
           and pid <> pg_backend_pid()
           and application_name !~ '^migrate( [0-9]+)?:') as active_sessions,
       coalesce((extract(epoch from max(standby.replay_lag)) * 1000)::bigint, 0) as lag_ms,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), standby.replay_lsn))::bigint, 0) as lag_bytes
  from pg_stat_replication as standby
 where standby.state in ('streaming', 'catchup')
   and not exists (select from pg_replication_slots as slot where slot.active_pid = standby.pid and slot.slot_type = 'logical')
