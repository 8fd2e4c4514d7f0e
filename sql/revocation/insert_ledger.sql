-- revocation/insert_ledger: writes revocations into the ledger, those that are there already left out.
-- params:  $1 int attempt, $2 text[] ids, $3 text[] rules, $4 text[] keys (json), $5 text[] commit positions
-- returns: id text of each that is new
-- majors:  15-18
insert into migrate.revocation (id, attempt, rule, key, commit_lsn, touched)
select message.id, $1::int, message.rule, message.key::jsonb, message.commit_lsn::pg_lsn, 0
  from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as message(id, rule, key, commit_lsn)
on conflict (id) do nothing
returning id
