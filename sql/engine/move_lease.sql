-- engine/move_lease: makes this session the one whose life is the holder's, under the same epoch.
-- params:  $1 bigint our epoch
-- returns: nothing; the row count tells
-- majors:  15-18
update migrate.lease l
set backend_pid = a.pid, backend_start = a.backend_start, renewed_at = clock_timestamp()
from pg_stat_activity a
where a.pid = pg_backend_pid() and l.epoch = $1::bigint
