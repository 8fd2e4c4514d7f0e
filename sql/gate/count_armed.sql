-- gate/count_armed: how many of these tables have our gate's trigger, enabled and unchanged.
-- params:  $1 text[] quoted table names, $2 text how it is enabled: A always, O for ordinary sessions
-- returns: bigint
-- majors:  15-18
select count(*)
from unnest($1::text[]) as wanted (name)
join pg_trigger t on t.tgrelid = to_regclass(wanted.name)
where t.tgname = 'migrate_gate'
  and t.tgenabled::text = $2::text
  and t.tgfoid = 'migrate.gate_check'::regproc
  and t.tgtype = 62 -- before, statement, insert or update or delete or truncate
