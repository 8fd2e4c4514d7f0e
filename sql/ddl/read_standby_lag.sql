-- ddl/read_standby_lag: how far the slowest receiver of WAL is behind what was written.
-- params:  none
-- returns: lag_bytes bigint, 0 when nobody receives; what our role may not see counts as none
-- majors:  15-18
select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint as lag_bytes
  from pg_stat_replication
 where state = 'streaming'
