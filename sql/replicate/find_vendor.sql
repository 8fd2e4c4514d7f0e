-- replicate/find_vendor: whether a file of the vendor's has run on green's copy.
-- params:  none
-- returns: bool
-- majors:  15-18
select exists (select from migrate.manifest where object like 'made: after-copy %')
