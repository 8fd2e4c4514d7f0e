-- copy/count_whole: how much of an attempt's copy is whole.
-- params:  $1 attempt int
-- returns: whole bigint: tables, and ranges of tables
-- majors:  15-18
select (select count(*) from migrate.copy_table where attempt = $1 and state = 'done')
     + (select count(*) from migrate.copy_chunk where attempt = $1 and xids is not null) as whole
