-- stream/begin_progress: says that green holds exactly what blue had at a slot's consistent point; never moves a row that is there.
-- params:  $1 slot name (text), $2 position (text)
-- returns: nothing
-- majors:  15-18
insert into migrate.progress (slot, commit_lsn)
values ($1, $2::text::pg_lsn)
on conflict (slot) do nothing
