-- copy/read_green_settings: what green's operator gave it, by which we judge how large it is.
-- params:  none
-- returns: maintenance_bytes bigint, shared_bytes bigint, worker_processes int
-- majors:  15-18
select pg_size_bytes(current_setting('maintenance_work_mem')) as maintenance_bytes,
       pg_size_bytes(current_setting('shared_buffers')) as shared_bytes,
       current_setting('max_worker_processes')::int as worker_processes
