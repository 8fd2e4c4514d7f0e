-- gate/pass_own: lets the transaction that asks past the closed gate, and nobody else, as long as it is not committed so.
-- params:  none
-- returns: nothing; the row count tells
-- majors:  15-18
update migrate.gate set closed = false where closed
