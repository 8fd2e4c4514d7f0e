-- revocation/list_accounts: for each producer of an attempt, what it counted and what its END said.
-- params:  $1 int attempt
-- returns: producer text, messages bigint, ids_hash text, ended bool, end_messages bigint, end_hash text (null: no END)
-- majors:  15-18
select coalesce(capture.slot, known.producer) as producer,
       coalesce(capture.messages, 0) as messages,
       coalesce(capture.ids_hash, '') as ids_hash,
       capture.ended_at is not null as ended,
       known.messages as end_messages,
       known.ids_hash as end_hash
  from (select * from migrate.revocation_capture where attempt = $1::int) as capture
  full join (select * from migrate.revocation_end where attempt = $1::int) as known on known.producer = capture.slot
