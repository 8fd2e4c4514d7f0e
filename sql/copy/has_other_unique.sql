-- copy/has_other_unique: whether a table of green has something unique besides its primary key, there or deferred.
-- params:  $1 attempt int, $2 table name text, $3 schema text, $4 table text
-- returns: one bool
-- majors:  15-18
select exists (select from migrate.deferred_object
                where attempt = $1 and table_name = $2 and rebuilt_at is null
                  and (kind in ('unique', 'exclusion') or definition ~* '^create unique index'))
    or exists (select from pg_index as x
                 join pg_class as c on c.oid = x.indrelid
                 join pg_namespace as n on n.oid = c.relnamespace
                where n.nspname = $3 and c.relname = $4 and not x.indisprimary
                  and (x.indisunique or x.indisexclusion))
