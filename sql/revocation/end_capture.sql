-- revocation/end_capture: the capture's END is confirmed by the broker.
-- params:  $1 text slot
-- returns: nothing
-- majors:  15-18
update migrate.revocation_capture set ended_at = clock_timestamp(), at = clock_timestamp() where slot = $1::text
