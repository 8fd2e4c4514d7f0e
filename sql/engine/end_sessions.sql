-- engine/end_sessions: ends the sessions of earlier epochs in this database, by the epoch in their application_name, and waits five seconds at most for each.
-- params:  $1 bigint the epoch that is being taken
-- returns: nothing
-- majors:  15-18
select pg_terminate_backend(pid, 5000)
from pg_stat_activity
where datname = current_database()
  and pid <> pg_backend_pid()
  and application_name ~ '^migrate [0-9]{1,18}:'
  and substring(application_name from '^migrate ([0-9]{1,18}):')::bigint < $1::bigint
