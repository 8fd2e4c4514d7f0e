-- stream/write_last_keys: leaves the keys that a slot's follower changed last to the next one.
-- params:  $1 text slot, $2 jsonb an array of pairs, table and key
-- returns: nothing
-- majors:  15-18
insert into migrate.last_keys (slot, keys) values ($1, $2)
on conflict (slot) do update set keys = excluded.keys, at = clock_timestamp()
