-- gate/close_blue: refuses writes on blue from this transaction's commit on.
-- params:  $1 bigint our epoch, $2 text WAL position up to which green has everything
-- returns: nothing
-- majors:  15-18
update migrate.gate
set closed = true, state = 'FENCED', epoch = $1::bigint, lsn = $2::text::pg_lsn, at = clock_timestamp()
