-- state/write_identity: says once which database this is.
-- params:  $1 text side, $2 text nonce, $3 text plan
-- returns: nothing
-- majors:  15-18
insert into migrate.identity (side, nonce, plan) values ($1, $2, $3) on conflict (one) do nothing
