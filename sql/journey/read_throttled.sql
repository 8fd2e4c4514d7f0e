-- journey/read_throttled: which limit of the plan the copy waits for, as its session that looks at blue's load says.
-- params:  none
-- returns: limit_name text; no row while it does not wait
-- majors:  15-18
select substring(application_name from '^migrate [0-9]+: throttle, (.*)$') as limit_name
  from pg_stat_activity
 where datname = current_database()
   and application_name ~ '^migrate [0-9]+: throttle, '
 limit 1
