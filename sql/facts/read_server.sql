-- facts/read_server: what the server and the database are, and what our role may do.
-- params:  none
-- returns: facts text: one JSON object with the scalar fields of ServerFacts
-- majors:  15-18
select jsonb_build_object(
    'version_num', current_setting('server_version_num')::int,
    'system_identifier', (select system_identifier::text from pg_control_system()),
    'timeline', (select timeline_id from pg_control_checkpoint()),
    'database', d.datname,
    'database_oid', d.oid::bigint,
    'encoding', pg_encoding_to_char(d.encoding),
    'collation', jsonb_build_object(
        'provider', case d.datlocprovider when 'c' then 'libc' when 'i' then 'icu' else 'builtin' end,
        'collate', d.datcollate,
        'ctype', d.datctype,
        -- Named otherwise up to 16.
        'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
        'recorded_version', d.datcollversion,
        'version', pg_database_collation_actual_version(d.oid)),
    'in_recovery', pg_is_in_recovery(),
    'role', (
        select jsonb_build_object(
            'name', session_user,
            'superuser', r.rolsuper,
            'replication', r.rolreplication,
            'bypass_rls', r.rolbypassrls,
            'create_in_database', has_database_privilege(r.oid, d.oid, 'CREATE'),
            'replica_role', has_parameter_privilege(r.oid, 'session_replication_role', 'SET'),
            'sees_all_sessions', r.rolsuper or pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE'))
        from pg_roles r where r.rolname = current_user),
    'settings', (
        -- Our session's own time zone is pinned; a script run by hand would get the default of database and role.
        select jsonb_object_agg(s.name, case s.name when 'TimeZone' then s.reset_val else current_setting(s.name) end)
        from pg_settings s
        where s.name in (
            'TimeZone',
            'wal_level', 'max_wal_senders', 'max_replication_slots', 'max_slot_wal_keep_size', 'wal_keep_size',
            'wal_sender_timeout', 'idle_replication_slot_timeout', 'max_connections', 'superuser_reserved_connections',
            'reserved_connections', 'max_prepared_transactions', 'max_locks_per_transaction', 'max_worker_processes',
            'logical_decoding_work_mem', 'fsync', 'full_page_writes', 'synchronous_commit',
            'synchronous_standby_names', 'archive_mode', 'default_transaction_read_only',
            'default_transaction_isolation', 'default_transaction_deferrable', 'default_toast_compression',
            'deadlock_timeout', 'standard_conforming_strings', 'array_nulls', 'transform_null_equals', 'lc_numeric',
            'lc_time', 'default_text_search_config', 'xmloption',
            'shared_preload_libraries', 'block_size', 'server_encoding')),
    'large_objects', (select count(*) from pg_largeobject_metadata),
    'senders_used', (select count(*) from pg_stat_replication),
    'connections_used', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
    'wal_insert_lsn', case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end
)::text as facts
from pg_database d
where d.datname = current_database()
