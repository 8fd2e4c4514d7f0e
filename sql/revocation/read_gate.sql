-- revocation/read_gate: whether green is open to applications, and which transaction opened it. Holds the gate as it
-- is until ours ends.
-- params:  none
-- returns: opened_by text: the opening transaction's id, null while green is closed; no row when there is no gate
-- majors:  15-18
select case when closed then null else xmin::text end as opened_by from migrate.gate for share
