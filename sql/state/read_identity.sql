-- state/read_identity: which database this is, by our word and the server's.
-- params:  none
-- returns: side text, nonce text, plan text, system_identifier text, timeline int, database_oid oid
-- majors:  15-18
select i.side, i.nonce, i.plan, s.system_identifier::text, c.timeline_id as timeline, d.oid as database_oid
from migrate.identity i, pg_control_system() s, pg_control_checkpoint() c, pg_database d
where d.datname = current_database()
