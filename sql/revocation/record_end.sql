-- revocation/record_end: an END was read from the queue; of several of one producer the fullest stays.
-- params:  $1 text producer, $2 int attempt, $3 bigint messages, $4 text ids_hash
-- returns: nothing
-- majors:  15-18
insert into migrate.revocation_end as known (producer, attempt, messages, ids_hash)
values ($1::text, $2::int, $3::bigint, $4::text)
on conflict (producer) do update
   set attempt = excluded.attempt, messages = excluded.messages, ids_hash = excluded.ids_hash, at = clock_timestamp()
 where (excluded.attempt, excluded.messages) >= (known.attempt, known.messages)
