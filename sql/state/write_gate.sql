-- state/write_gate: the gate as it is before anything happened.
-- params:  $1 bool closed, $2 text state
-- returns: nothing
-- majors:  15-18
insert into migrate.gate (closed, state, epoch) values ($1, $2, 0) on conflict (one) do nothing
