-- cutover/public_can_connect: whether every role may connect to this database.
-- params:  none
-- returns: bool
-- majors:  15-18
select exists (
    select from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) acl
    where d.datname = current_database() and acl.grantee = 0 and acl.privilege_type = 'CONNECT')
