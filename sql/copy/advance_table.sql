-- copy/advance_table: progress of one table, and whether green's backend still loads it.
-- params:  $1 attempt int, $2 table name text, $3 state text, $4 rows bigint, $5 bytes bigint, $6 epoch bigint, $7 pid of the loading backend int
-- returns: loading bool, ours bool (the lease is still of that epoch; else nothing is written)
-- majors:  15-18
with ours as (
    select from migrate.lease where epoch = $6 for key share
), advanced as (
    update migrate.copy_table
       set state = $3, rows = $4, bytes = $5, changed_at = clock_timestamp()
     where attempt = $1 and table_name = $2 and state <> 'done' and exists (select from ours)
)
select exists (select from pg_stat_progress_copy where pid = $7) as loading,
       exists (select from ours) as ours
