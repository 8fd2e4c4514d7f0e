-- cutover/list_other_sessions: every client session of this database that is not ours; readers of stale data.
-- params:  none
-- returns: pid int, role text
-- majors:  15-18
-- Without pg_read_all_stats the kind of a foreign session is null; those that belong to a role are taken for clients.
select pid, usename::text as role
from pg_stat_activity
where datname = current_database()
  and coalesce(backend_type, 'client backend') = 'client backend'
  and usesysid is not null
  and pid <> pg_backend_pid()
  and application_name !~ '^migrate( [0-9]+)?:'
