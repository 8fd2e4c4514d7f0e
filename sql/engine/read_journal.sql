-- engine/read_journal: an attempt's entries, oldest first.
-- params:  $1 int attempt
-- returns: seq bigint, step text, event text, note jsonb, epoch bigint, at timestamptz
-- majors:  15-18
select seq, step, event, note, epoch, at from migrate.journal where attempt = $1 order by seq
