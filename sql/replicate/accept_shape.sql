-- replicate/accept_shape: writes down on green that a changed shape of blue's was accepted.
-- params:  $1 what it is called: text, $2 the changes: jsonb
-- returns: nothing
-- majors:  15-18
insert into migrate.manifest (object, prior) values ($1, $2) on conflict (object) do update set prior = excluded.prior
