-- journey/oldest_transaction: the oldest open transaction of this database that is not ours.
-- params:  none
-- returns: pid int, state text, age_ms bigint; no row when none is open
-- majors:  15-18
select pid, state, (extract(epoch from clock_timestamp() - xact_start) * 1000)::bigint as age_ms
from pg_stat_activity
where datname = current_database()
  and xact_start is not null
  and backend_type = 'client backend'
  and pid <> pg_backend_pid()
  and application_name !~ '^migrate( [0-9]+)?:'
order by xact_start
limit 1
