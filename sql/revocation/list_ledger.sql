-- revocation/list_ledger: a page of a rule's ledgered keys, in order of id.
-- params:  $1 int attempt, $2 text rule, $3 text the last id of the page before, $4 bigint rows at most
-- returns: id text, key text (json)
-- majors:  15-18
select id, key::text as key from migrate.revocation
 where attempt = $1::int and rule = $2::text and id > $3::text
 order by id
 limit $4::bigint
