-- copy/list_prerequisites: what a schema may need from green before it can be loaded.
-- params:  none
-- returns: one row of text[]: roles, may_own (roles ours may give objects to), extensions, schemas, tablespaces, parameters
-- majors:  15-18
select array(select rolname::text from pg_roles) as roles,
       array(select rolname::text from pg_roles where pg_has_role(current_user, oid, 'member')) as may_own,
       array(select name::text from pg_available_extensions) as extensions,
       array(select nspname::text from pg_namespace) as schemas,
       array(select spcname::text from pg_tablespace) as tablespaces,
       array(select name::text from pg_settings) || array['session_authorization', 'role'] as parameters
