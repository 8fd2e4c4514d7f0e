-- gate/close_own: takes back what gate/pass_own did, in the same transaction.
-- params:  none
-- returns: nothing; the row count tells
-- majors:  15-18
update migrate.gate set closed = true where not closed
