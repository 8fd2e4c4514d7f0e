-- journey/progress_status: how far a slot's changes are in green.
-- params:  $1 text slot
-- returns: commit_lsn text, transactions bigint, rows bigint
-- majors:  15-18
select commit_lsn::text as commit_lsn, transactions, rows from migrate.progress where slot = $1
