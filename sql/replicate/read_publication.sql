-- replicate/read_publication: what a publication holds.
-- params:  $1 text its name
-- returns: tables text[] as schema.table, all_changes bool
-- majors:  15-18
select array(select format('%s.%s', t.schemaname, t.tablename)
             from pg_publication_tables t where t.pubname = p.pubname) as tables,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate and not p.puballtables as all_changes
from pg_publication p
where p.pubname = $1
