-- replicate/begin_progress: where following begins: the position of the slot's snapshot.
-- params:  $1 text slot, $2 text position
-- returns: nothing
-- majors:  15-18
insert into migrate.progress (slot, commit_lsn) values ($1, $2::text::pg_lsn)
