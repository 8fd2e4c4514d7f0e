-- rehearse/list_locks: the locks on relations of this database that a session holds or waits for.
-- params:  $1 int4 the session's pid
-- returns: relation, mode (as pg_locks writes it)
-- majors:  15-18
select l.relation, l.mode
from pg_locks l
where l.pid = $1
  and l.locktype = 'relation'
  and l.database = (select oid from pg_database where datname = current_database())
