-- gate/declare_opening: the point of no return, written on blue: green may be open from now on.
-- params:  $1 bigint our epoch
-- returns: nothing; the row count tells
-- majors:  15-18
update migrate.gate
set state = 'OPENING', epoch = $1::bigint, at = clock_timestamp()
where state in ('FENCED', 'OPENING') and closed
