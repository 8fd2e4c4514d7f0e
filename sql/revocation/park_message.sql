-- revocation/park_message: keeps a message that cannot be used, with the reason. It blocks the end.
-- params:  $1 text id, $2 text reason, $3 text body
-- returns: nothing
-- majors:  15-18
insert into migrate.revocation_parked (id, reason, body) values ($1::text, $2::text, $3::text)
on conflict (id) do nothing
