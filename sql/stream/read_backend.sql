-- stream/read_backend: what tells this session apart from any other, now and later.
-- params:  none
-- returns: pid (integer), began (text)
-- majors:  15-18
select pid, extract(epoch from backend_start)::text
from pg_stat_activity
where pid = pg_backend_pid()
