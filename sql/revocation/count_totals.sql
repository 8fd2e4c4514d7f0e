-- revocation/count_totals: what an attempt captured, replayed and parked.
-- params:  $1 int attempt
-- returns: captured, ledgered, replayed (rows were touched), parked bigint
-- majors:  15-18
select (select coalesce(sum(messages), 0)::bigint from migrate.revocation_capture where attempt = $1::int) as captured,
       (select count(*) from migrate.revocation where attempt = $1::int) as ledgered,
       (select count(*) from migrate.revocation where attempt = $1::int and touched > 0) as replayed,
       (select count(*) from migrate.revocation_parked) as parked
