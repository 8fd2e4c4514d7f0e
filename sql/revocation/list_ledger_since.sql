-- revocation/list_ledger_since: a page of a rule's ledgered keys that an earlier look did not see, or found something of; in order of id.
-- params:  $1 int attempt, $2 text rule, $3 text the last id of the page before, $4 bigint rows at most, $5 text what the earlier look saw (a snapshot), $6 text[] the ids it found something of
-- returns: id text, key text (json)
-- majors:  15-18
select id, key::text as key from migrate.revocation
 where attempt = $1::int and rule = $2::text and id > $3::text
   and (id = any ($6::text[])
        or xid >= pg_snapshot_xmin($5::text::pg_snapshot) and not pg_visible_in_snapshot(xid, $5::text::pg_snapshot))
 order by id
 limit $4::bigint
