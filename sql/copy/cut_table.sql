-- copy/cut_table: cuts a table into ranges between bounds.
-- params:  $1 attempt int, $2 table name text, $3 key column text, $4 bounds in order text[], $5 filenode text
-- returns: nothing
-- majors:  15-18
insert into migrate.copy_chunk (attempt, table_name, number, key_column, lower, upper, filenode)
select $1, $2, n, $3, ($4::text[])[n - 1], ($4::text[])[n], $5
  from generate_series(1, cardinality($4::text[]) + 1) as n
