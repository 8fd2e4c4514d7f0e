-- engine/take_lease: makes this session the holder.
-- params:  $1 bigint epoch, $2 text holder
-- returns: nothing
-- majors:  15-18
insert into migrate.lease (one, epoch, holder, backend_pid, backend_start, taken_at, renewed_at)
select 1, $1::bigint, $2::text, a.pid, a.backend_start, clock_timestamp(), clock_timestamp()
from pg_stat_activity a where a.pid = pg_backend_pid()
on conflict (one) do update
    set epoch = excluded.epoch, holder = excluded.holder, backend_pid = excluded.backend_pid,
        backend_start = excluded.backend_start, taken_at = excluded.taken_at, renewed_at = excluded.renewed_at
