-- stream/read_last_keys: the keys that a slot's follower changed last, oldest first.
-- params:  $1 text slot
-- returns: keys jsonb: an array of pairs, table and key
-- majors:  15-18
select keys from migrate.last_keys where slot = $1
