-- copy/read_chunk_key: the key that a table may be copied in ranges of: a primary key of one integer or uuid column that changes
--   tell of the row before. Nothing else may be unique: a value that went from one row to another would be in the copies of both.
-- params:  $1 schema text, $2 table text
-- returns: key_column text (null when there is none), filenode text, blocks bigint
-- majors:  15-18
select (select a.attname::text
          from pg_index as x
          join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
         where c.relkind = 'r' and c.relreplident in ('d', 'f')
           and x.indrelid = c.oid and x.indisprimary and x.indisvalid and x.indnkeyatts = 1
           and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype)
           and not exists (select from pg_index as other
                            where other.indrelid = c.oid and not other.indisprimary
                              and (other.indisunique or other.indisexclusion))) as key_column,
       pg_relation_filenode(c.oid)::text as filenode,
       pg_relation_size(c.oid) / current_setting('block_size')::int as blocks
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2
