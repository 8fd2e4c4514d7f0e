-- facts/read_target_keys: the unique indexes of a table that find at most one row at any moment: of NOT NULL columns alone.
-- params:  $1 schema text, $2 table text
-- returns: columns text[]; the primary key's first
-- majors:  15-18
select array(
           select a.attname::text
             from unnest(x.indkey::int2[]) with ordinality as k (attnum, place)
             join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
            where k.place <= x.indnkeyatts
            order by k.place) as columns
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_index as x on x.indrelid = c.oid
  join pg_class as i on i.oid = x.indexrelid
 where n.nspname = $1 and c.relname = $2
   and x.indisunique and x.indisvalid and x.indimmediate and x.indpred is null and x.indexprs is null
   and not exists (
       select
         from unnest(x.indkey::int2[]) with ordinality as k (attnum, place)
         join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
        where k.place <= x.indnkeyatts and not a.attnotnull)
 order by not x.indisprimary, i.relname collate "C"
