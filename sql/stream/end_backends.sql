-- stream/end_backends: ends sessions of ours that we were cut off from, and waits up to ten seconds for the end of each.
-- params:  $1 pids (integer[]), $2 when each began, as read_backend.sql says it (text[])
-- returns: whether all have ended (boolean)
-- majors:  15-18
select coalesce(bool_and(pg_terminate_backend(activity.pid, 10000)), true)
from unnest($1::integer[], $2::text[]) as ours (pid, began)
join pg_stat_activity as activity
  on activity.pid = ours.pid
 and extract(epoch from activity.backend_start)::text = ours.began
