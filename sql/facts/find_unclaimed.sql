-- facts/find_unclaimed: whether our schema says nothing of whose it is, and nobody ever held its lease.
-- params:  none
-- returns: unclaimed bool
-- majors:  15-18
select not exists (select from migrate.identity)
   and not exists (select from migrate.lease)
   and not exists (select from migrate.gate) as unclaimed
