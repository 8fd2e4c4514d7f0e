-- engine/write_attempt: pins an attempt.
-- params:  $1 int attempt, $2 text plan, $3 text fingerprint, $4 jsonb pin
-- returns: nothing
-- majors:  15-18
insert into migrate.attempt (attempt, plan, fingerprint, pin) values ($1, $2, $3, $4)
