-- copy/advance_table: progress of one table, and whether green's backend still loads it.
-- params:  $1 attempt int, $2 table name text, $3 rows bigint, $4 bytes bigint, $5 epoch bigint, $6 pid of the loading backend int
-- returns: loading bool, ours bool (the lease is still of that epoch; else nothing is written)
-- majors:  15-18
with ours as (
    select from migrate.lease where epoch = $5 for key share
), advanced as (
    update migrate.copy_table
       set state = 'copying', rows = $3, bytes = $4, changed_at = clock_timestamp()
     where attempt = $1 and table_name = $2 and state <> 'done' and exists (select from ours)
)
select exists (select from pg_stat_progress_copy where pid = $6) as loading,
       exists (select from ours) as ours
