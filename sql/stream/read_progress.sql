-- stream/read_progress: how far a slot's changes are on green.
-- params:  $1 slot name (text)
-- returns: commit_lsn (text), marker (text or null), transactions (bigint), rows (bigint), blue's commit time of the newest
--          transaction that is in, in microseconds since 1970 (bigint or null); no row when the copy never handed over
-- majors:  15-18
select commit_lsn::text, marker, transactions, rows, (extract(epoch from blue_commit_time) * 1000000)::bigint
from migrate.progress
where slot = $1
