-- revocation/read_capture: how far a capture has come, and what it counted.
-- params:  $1 text slot
-- returns: commit_lsn text, messages bigint, ids_hash text; no row when it never began
-- majors:  15-18
select commit_lsn::text as commit_lsn, messages, ids_hash from migrate.revocation_capture where slot = $1::text
