-- state/create_blue: what we keep on blue: who may act, the gate, and all we changed there.
-- params:  none; run as one batch, again and again
-- returns: nothing
-- majors:  15-18
create schema if not exists migrate;
revoke all on schema migrate from public;
-- Applications run the gate's function, which is security definer; they need to see nothing else.
grant usage on schema migrate to public;

create table if not exists migrate.identity (
    one        int primary key default 1 check (one = 1),
    side       text not null check (side in ('blue', 'green')),
    nonce      text not null,
    plan       text not null,
    created_at timestamptz not null default now()
);

-- Read through the route to prove where it leads; holds no secret.
grant select on migrate.identity to public;

-- The right to act. The epoch only grows; a transaction of ours that finds another epoch than its own stops.
create table if not exists migrate.lease (
    one         int primary key default 1 check (one = 1),
    epoch       bigint not null,
    holder      text not null,
    backend_pid int,
    backend_start timestamptz,
    taken_at    timestamptz not null default now(),
    renewed_at  timestamptz not null default now()
);

-- Whether applications may write here. Applications' transactions hold advisory lock 7747001 in share mode while they
-- write; whoever closes the gate takes it in exclusive mode first, so that no writer is in between.
create table if not exists migrate.gate (
    one    int primary key default 1 check (one = 1),
    closed boolean not null,
    -- blue: OPEN, FENCED, OPENING. green: CLOSED, OPEN.
    state  text not null,
    epoch  bigint not null,
    lsn    pg_lsn,
    at     timestamptz not null default now()
);

-- Everything we changed on this database, with what was there before, so that it can be cleaned alone. On blue also what
-- taking clients back needs when green cannot be reached: see step/way_back.rs.
create table if not exists migrate.manifest (
    object     text primary key,
    prior      jsonb not null,
    changed_at timestamptz not null default now()
);

create or replace function migrate.gate_check() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock_shared(7747001);
    -- A snapshot older than the fence does not see that the gate was closed; FOR SHARE does, and gives 40001.
    if current_setting('transaction_isolation') = 'read committed' then
        perform 1 from migrate.gate where closed;
    else
        perform 1 from migrate.gate for share;
        perform 1 from migrate.gate where closed;
    end if;
    if found then
        raise exception 'this database does not take writes: migrate % it', (select case side when 'blue' then 'has left' else 'has not opened' end from migrate.identity)
            using errcode = '25006', hint = 'Connect through the route that migrate switches, or ask whoever runs the migration.';
    end if;
    return null;
end
$$;
