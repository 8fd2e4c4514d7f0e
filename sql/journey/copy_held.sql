-- journey/copy_held: what the copy holds on blue.
-- params:  none
-- returns: snapshot_age_ms bigint, of the oldest snapshot of ours; null when there is none
-- majors:  15-18
select (extract(epoch from max(clock_timestamp() - xact_start)) * 1000)::bigint as snapshot_age_ms
  from pg_stat_activity
 where datname = current_database()
   and application_name ~ '^migrate [0-9]+: copy'
   and backend_xmin is not null
