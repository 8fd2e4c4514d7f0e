-- cutover/keep_connect_grant: remembers on blue that PUBLIC could connect, so that blue alone can be put back.
-- params:  none
-- returns: nothing
-- majors:  15-18
insert into migrate.manifest (object, prior) values ('connect', '{"public": true}')
on conflict (object) do nothing
