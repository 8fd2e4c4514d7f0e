-- gate/open_green: takes writes on green.
-- params:  $1 bigint our epoch
-- returns: nothing
-- majors:  15-18
update migrate.gate
set closed = false, state = 'OPEN', epoch = $1::bigint, at = clock_timestamp()
