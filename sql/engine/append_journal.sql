-- engine/append_journal: one entry, refused (no row) when the lease is no longer ours.
-- params:  $1 int attempt, $2 bigint epoch, $3 text step, $4 text event, $5 jsonb note
-- returns: nothing; the row count tells
-- majors:  15-18
with ours as (
    select epoch from migrate.lease where epoch = $2::bigint for key share
)
insert into migrate.journal (attempt, epoch, step, event, note)
select $1::int, ours.epoch, $3::text, $4::text, $5::jsonb from ours
