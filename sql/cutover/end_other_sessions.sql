-- cutover/end_other_sessions: ends every client session of this database that is not ours; readers of stale data.
-- params:  none
-- returns: nothing
-- majors:  15-18
select pg_terminate_backend(pid)
from pg_stat_activity
where datname = current_database()
  and backend_type = 'client backend'
  and pid <> pg_backend_pid()
  and application_name !~ '^migrate( [0-9]+)?:'
