-- gate/reopen_blue: takes writes on blue again, if green cannot have been opened.
-- params:  $1 bigint our epoch
-- returns: nothing; the row count tells
-- majors:  15-18
update migrate.gate
set closed = false, state = 'OPEN', epoch = $1::bigint, lsn = null, at = clock_timestamp()
where state in ('OPEN', 'FENCED')
