-- stream/write_progress: moves the progress of a slot, in the transaction that writes the rows.
-- params:  $1 slot name (text), $2 position (text), $3 newest marker or null (text), $4 transactions more (bigint),
--          $5 rows more (bigint), $6 blue's commit time in microseconds since 1970, or null (bigint)
-- returns: nothing; exactly one row is touched
-- majors:  15-18
update migrate.progress
set commit_lsn       = $2::text::pg_lsn,
    marker           = coalesce($3, marker),
    transactions     = transactions + $4,
    rows             = rows + $5,
    blue_commit_time = coalesce('epoch'::timestamptz + $6::bigint * interval '1 microsecond', blue_commit_time),
    applied_at       = clock_timestamp()
where slot = $1
  and commit_lsn <= $2::text::pg_lsn
