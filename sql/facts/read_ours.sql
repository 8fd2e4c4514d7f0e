-- facts/read_ours: who we said this database is. Run only when migrate.identity exists.
-- params:  none
-- returns: side, plan, nonce text
-- majors:  15-18
-- needs:   migrate.identity
select side, plan, nonce
from migrate.identity
