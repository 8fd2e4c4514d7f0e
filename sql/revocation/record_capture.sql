-- revocation/record_capture: how far a capture has come, all of it confirmed by the broker. New messages reopen what
-- had ended.
-- params:  $1 text slot, $2 int attempt, $3 text position, $4 bigint messages, $5 text ids_hash
-- returns: nothing
-- majors:  15-18
insert into migrate.revocation_capture as capture (slot, attempt, commit_lsn, messages, ids_hash)
values ($1::text, $2::int, $3::text::pg_lsn, $4::bigint, $5::text)
on conflict (slot) do update
   set attempt = excluded.attempt,
       commit_lsn = excluded.commit_lsn,
       messages = excluded.messages,
       ids_hash = excluded.ids_hash,
       ended_at = case when capture.messages = excluded.messages then capture.ended_at end,
       at = clock_timestamp()
