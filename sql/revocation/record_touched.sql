-- revocation/record_touched: how many rows each effect touched, in the transaction of the effect.
-- params:  $1 text[] ids, $2 bigint[] rows
-- returns: nothing
-- majors:  15-18
update migrate.revocation as ledger
   set touched = effect.touched
  from unnest($1::text[], $2::bigint[]) as effect(id, touched)
 where ledger.id = effect.id
