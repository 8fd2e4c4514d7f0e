-- stream/read_progress: how far a slot's changes are on green.
-- params:  $1 slot name (text)
-- returns: commit_lsn (text), marker (text or null), transactions (bigint), rows (bigint); no row when the copy never handed over
-- majors:  15-18
select commit_lsn::text, marker, transactions, rows
from migrate.progress
where slot = $1
