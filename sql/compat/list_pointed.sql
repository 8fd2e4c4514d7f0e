-- compat/list_pointed: whom a setting of this database or of a role still sends to a schema first.
-- params:  $1 text the schema
-- returns: who text
-- majors:  15-18
select concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname) as who
  from pg_db_role_setting s
 cross join lateral unnest(s.setconfig) as setting
  left join pg_roles r on r.oid = s.setrole
  left join pg_database d on d.oid = s.setdatabase
 where starts_with(setting, 'search_path=')
   and position($1 in setting) > 0
   and (s.setdatabase = 0 or d.datname = current_database())
 order by who
