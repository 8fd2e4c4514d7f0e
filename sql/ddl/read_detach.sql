-- ddl/read_detach: whether a table is a partition of another, and whether its detaching was begun; no row when it is none.
-- params:  $1 text: the partitioned table, quoted, $2 text: the partition, quoted
-- returns: pending bool
-- majors:  15-18
select i.inhdetachpending as pending
from pg_inherits i
where i.inhparent = to_regclass($1) and i.inhrelid = to_regclass($2)
