-- replicate/begin_progress: where following begins: where the slot does.
-- params:  $1 text slot, $2 text position
-- returns: nothing
-- majors:  15-18
insert into migrate.progress (slot, commit_lsn) values ($1, $2::text::pg_lsn)
on conflict (slot) do update set commit_lsn = excluded.commit_lsn, marker = null, transactions = 0, rows = 0
