-- engine/read_lease: who holds the lease, and whether they live.
-- params:  $1 float8 seconds after which a holder that has not renewed is dead
-- returns: epoch bigint, holder text, alive bool
-- majors:  15-18
select l.epoch, l.holder,
       l.renewed_at > clock_timestamp() - make_interval(secs => $1)
       and exists (select from pg_stat_activity a where a.pid = l.backend_pid and a.backend_start = l.backend_start)
           as alive
from migrate.lease l
