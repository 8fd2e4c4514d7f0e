-- replicate/find_accepted_shape: the shapes of blue's that were accepted.
-- params:  $1 what it is called: text, with % for any
-- returns: prior jsonb: the changes
-- majors:  15-18
select prior from migrate.manifest where object like $1 order by object
