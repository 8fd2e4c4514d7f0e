-- state/create_green: what we keep on green besides what blue has too (state/create_blue): journal, progress, ledgers.
-- params:  none; run as one batch, again and again
-- returns: nothing
-- majors:  15-18

-- What we dare to say has happened. Append-only; the engine is its only writer.
create table if not exists migrate.journal (
    seq     bigint generated always as identity primary key,
    attempt int not null,
    epoch   bigint not null,
    step    text not null,
    event   text not null,
    note    jsonb,
    at      timestamptz not null default clock_timestamp()
);

-- The attempt that is on, the runbook it pinned, and the story's outline for `status` and `report`.
create table if not exists migrate.attempt (
    attempt     int primary key,
    plan        text not null,
    fingerprint text not null,
    pin         jsonb not null,
    started_at  timestamptz not null default now(),
    ended_at    timestamptz
);

-- How far a slot's changes are in green. Written in the transaction that writes the rows; it alone decides where to resume.
create table if not exists migrate.progress (
    slot             text primary key,
    commit_lsn       pg_lsn not null,
    marker           text,
    transactions     bigint not null default 0,
    rows             bigint not null default 0,
    blue_commit_time timestamptz,
    applied_at       timestamptz not null default clock_timestamp()
);

-- The keys a slot's follower changed last, left to the next one: the fence compares their rows.
create table if not exists migrate.last_keys (
    slot text primary key,
    keys jsonb not null,
    at   timestamptz not null default clock_timestamp()
);

-- The first copy, a row for each table, by its name on blue.
create table if not exists migrate.copy_table (
    attempt    int not null,
    table_name text not null,
    state      text not null check (state in ('waiting', 'copying', 'done')),
    rows       bigint not null default 0,
    bytes      bigint not null default 0,
    -- The moment of blue that the rows are of: what its snapshot saw, and blue's log right after it. The follower passes
    -- over what the snapshot saw.
    xids       text,
    seen_lsn   pg_lsn,
    -- From the first byte to the last, of the try that ended it.
    took_ms    bigint,
    changed_at timestamptz not null default clock_timestamp(),
    primary key (attempt, table_name)
);

-- A table copied in ranges of its key, a row for each: lower <= key < upper, null for no bound. Whole once it has a moment.
create table if not exists migrate.copy_chunk (
    attempt    int not null,
    table_name text not null,
    number     int not null,
    key_column text not null,
    lower      text,
    upper      text,
    -- Blue's file of the table when it was cut: another one means that it was truncated or rewritten since.
    filenode   text not null,
    rows       bigint not null default 0,
    bytes      bigint not null default 0,
    xids       text,
    seen_lsn   pg_lsn,
    primary key (attempt, table_name, number)
);

-- Indexes and constraints dropped for the copy, to be rebuilt after the rows.
create table if not exists migrate.deferred_object (
    attempt    int not null,
    table_name text not null,
    name       text not null,
    kind       text not null check (kind in ('primary_key', 'index', 'unique', 'foreign_key', 'check', 'exclusion')),
    definition text not null,
    rebuilt_at timestamptz,
    primary key (attempt, table_name, kind, name)
);

-- What one command of ours asks of another that holds the lease: a running `replicate` answers at a batch boundary.
create table if not exists migrate.request (
    id          bigint generated always as identity primary key,
    kind        text not null check (kind in ('cutover', 'verify', 'rollback', 'finish')),
    asked_by    text not null,
    -- The asker's session here: a request counts only while it lives.
    backend_pid   int not null,
    backend_start timestamptz not null,
    asked_at    timestamptz not null default clock_timestamp(),
    answered_at timestamptz
);

-- Revocations that took effect here, each written in the transaction of its effect.
create table if not exists migrate.revocation (
    id         text primary key,
    attempt    int not null,
    rule       text not null,
    key        jsonb not null,
    commit_lsn pg_lsn not null,
    -- rows the effect touched: 0 when the stream had made it effective already
    touched    bigint not null,
    -- what wrote it: tells those that an earlier look did not see
    xid        xid8 not null default pg_current_xact_id(),
    at         timestamptz not null default clock_timestamp()
);
create index if not exists revocation_xid on migrate.revocation (xid);

-- What could not be applied, with the reason; blocks `finish`.
create table if not exists migrate.revocation_parked (
    id     text primary key,
    reason text not null,
    body   text not null,
    at     timestamptz not null default clock_timestamp()
);

-- How far capture has come, and what it counted; the queue's END is checked against it.
create table if not exists migrate.revocation_capture (
    slot       text primary key,
    attempt    int not null,
    commit_lsn pg_lsn not null,
    messages   bigint not null default 0,
    -- xor of the ids' hashes: the same in any order
    ids_hash   text not null default '',
    ended_at   timestamptz,
    at         timestamptz not null default clock_timestamp()
);

-- ENDs that were read back from the queue.
create table if not exists migrate.revocation_end (
    producer   text primary key,
    attempt    int not null,
    messages   bigint not null,
    ids_hash   text not null,
    at         timestamptz not null default clock_timestamp()
);
