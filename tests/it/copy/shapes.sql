-- One of each thing that a copy stumbles over.
create schema "Odd ""Schema";
create type public.mood as enum ('sad', 'ok', 'very ''happy''');
create domain public.positive as int check (value > 0);
create type public.pair as (a int, b text);

create table public.plain (id bigint primary key, body text, at timestamptz, amount numeric(20, 5), raw bytea, flag bool);
insert into public.plain
select n, case when n % 7 = 0 then null else 'tab' || chr(9) || 'line' || chr(10) || 'back\slash \. naïve ☃ ' || n end,
       timestamptz '2024-02-29 12:00:00+00' + n * interval '1 second', n / 7.0, decode(md5(n::text), 'hex'), n % 2 = 0
  from generate_series(1, 5000) as n;
create index plain_body on public.plain (body) where body is not null;
create index plain_expression on public.plain (lower(body)) with (fillfactor = 70);
alter index public.plain_expression alter column 1 set statistics 500;
comment on index public.plain_body is 'of bodies';

create table "Odd ""Schema"."Odd Table" (
    "Id" int generated always as identity primary key,
    "sel ect" public.mood not null,
    dom public.positive,
    tags text[],
    "Both" public.pair,
    doc jsonb,
    class regclass,
    doubled int generated always as (dom * 2) stored,
    constraint "Odd Unique" unique ("sel ect", dom) deferrable initially deferred,
    constraint "Odd Check" check (dom < 100000)
);
comment on constraint "Odd Check" on "Odd ""Schema"."Odd Table" is 'it''s odd';
insert into "Odd ""Schema"."Odd Table" ("sel ect", dom, tags, "Both", doc, class)
select (enum_range(null::public.mood))[1 + n % 3], n, array['a,b', null, '{"x"}', ''], row(n, 'x"y')::public.pair, jsonb_build_object('n', n), 'pg_catalog.pg_class'
  from generate_series(1, 1000) as n;

create table public.measure (day date not null, device int not null, value float8, constraint measure_key primary key (day, device)) partition by range (day);
create table public.measure_2024 partition of public.measure for values from ('2024-01-01') to ('2025-01-01');
create table public.measure_2025 partition of public.measure for values from ('2025-01-01') to ('2026-01-01') partition by hash (device);
create table public.measure_2025_0 partition of public.measure_2025 for values with (modulus 2, remainder 0);
create table public.measure_2025_1 partition of public.measure_2025 for values with (modulus 2, remainder 1);
create index measure_value on public.measure (value);
create index only_2024 on public.measure_2024 (device);
alter table public.measure add constraint measure_device unique (device, day);
alter table public.measure add constraint measure_check check (device >= 0);
alter table public.measure_2024 add constraint leaf_check check (device < 1000000);
insert into public.measure select date '2024-01-01' + n % 700, n, n / 3.0 from generate_series(0, 2999) as n;

do $$
begin
    execute 'create table public.wide (' || (select string_agg(format('c%s %s', n, case n % 3 when 0 then 'int' when 1 then 'text' else 'bool' end), ', ') from generate_series(1, 500) as n) || ')';
    execute 'insert into public.wide (' || (select string_agg('c' || n, ', ') from generate_series(1, 500) as n) || ') select '
        || (select string_agg(case n % 3 when 0 then 'r' when 1 then '''t'' || r' else 'r % 2 = 0' end, ', ') from generate_series(1, 500) as n) || ' from generate_series(1, 50) as r';
end
$$;

create table public.empty (id int primary key);
create table public.keyless (a int, b text);
insert into public.keyless select n % 10, 'same' from generate_series(1, 100) as n;
create table public.columnless ();
insert into public.columnless default values;
insert into public.columnless default values;

-- A cycle of foreign keys.
create table public.hen (id int primary key, egg int);
create table public.egg (id int primary key, hen int constraint egg_hen references public.hen (id) on delete cascade);
insert into public.hen select n, n from generate_series(1, 100) as n;
insert into public.egg select n, n from generate_series(1, 100) as n;
alter table public.hen add constraint hen_egg foreign key (egg) references public.egg (id) deferrable initially deferred;
create table public.visit (day date, device int, foreign key (day, device) references public.measure (day, device));
insert into public.visit select day, device from public.measure limit 10;

-- Rows that a check added later never looked at.
create table public.unproved (n int);
insert into public.unproved values (-1), (1);
alter table public.unproved add constraint unproved_check check (n > 0) not valid;

create extension btree_gist schema public;
create table public.booking (room int, during tsrange, constraint booking_overlap exclude using gist (room with operator(pg_catalog.=), during with operator(pg_catalog.&&)));
insert into public.booking select n, tsrange('2024-01-01', '2024-01-02') from generate_series(1, 50) as n;
create table public.identified (id int primary key, code text not null);
create unique index identified_code on public.identified (code);
alter table public.identified replica identity using index identified_code;
insert into public.identified select n, 'c' || n from generate_series(1, 10) as n;
create index identified_cluster on public.identified (id, code);
alter table public.identified cluster on identified_cluster;

create table public.parent (id int, constraint parent_check check (id > 0));
create table public.child (extra text) inherits (public.parent);
insert into public.parent values (1), (2);
insert into public.child values (3, 'x');

create function public.shout(text) returns text language sql immutable as $$
    select upper($1) -- \restrict is not ours here
$$;
create view public.loud as select id, public.shout(body) as body from public.plain;
create table public.grouped (id int primary key, body text);
insert into public.grouped select n, 'b' || n from generate_series(1, 10) as n;
-- It names a column that is not grouped by, which only the primary key allows.
create view public.by_key as select id, body, count(*) as n from public.grouped group by id;
create materialized view public.days as select day, count(*) as n from public.measure group by day;
create unique index days_day on public.days (day);
create materialized view public.busiest as select max(n) as n from public.days;
create materialized view public.not_yet as select 1 as one with no data;
create function public.on_plain() returns trigger language plpgsql as $$ begin raise exception 'a trigger fired'; end $$;
create trigger plain_trigger before insert on public.plain for each row execute function public.on_plain();
