//! What happens on blue and must be the same on green.

use super::{CARRIED, Carried, Table, table};

pub(super) const CASES: &[Carried] = &[
    Carried {
        file: "001_rep_changes",
        what: "inserts without a key, updates and deletes by key, by a key with INCLUDE, and of equal rows by whole row",
        ddl: "create table r001_insert (a int, b text);
            create table r001_nothing (a int); alter table r001_nothing replica identity nothing;
            create table r001_keyed (id int primary key, note text default 'blue''s');
            create table r001_include (a int, b text, c int, primary key (a) include (b));
            create table r001_full (a int, b text); alter table r001_full replica identity full;
            create table r001_index (u int not null, v text); create unique index r001_u on r001_index (u);
            alter table r001_index replica identity using index r001_u;
            create table r001_empty (); alter table r001_empty replica identity full",
        green: "alter table r001_keyed alter column note set default 'green''s'",
        tables: &[
            table("r001_insert", &[]),
            table("r001_nothing", &[]),
            table("r001_keyed", &["id"]),
            table("r001_include", &["a"]),
            table("r001_full", &[]),
            table("r001_index", &["u"]),
            table("r001_empty", &[]),
        ],
        steps: &[
            "insert into r001_insert select n, null from generate_series(1, 500) n; insert into r001_nothing values (1), (null);
            insert into r001_keyed select n from generate_series(1, 500) n; insert into r001_include select n, 'b' || n, n from generate_series(1, 200) n;
            insert into r001_full select 1, 'same' from generate_series(1, 5); insert into r001_full values (null, null), (null, 'x');
            insert into r001_index select n, 'v' from generate_series(1, 200) n; insert into r001_empty default values; insert into r001_empty default values",
            "update r001_keyed set id = -id where id <= 250; delete from r001_keyed where id > 400; update r001_include set b = 'new', c = 0 where a > 50;
            update r001_include set a = a + 1000 where a <= 50; delete from r001_include where a > 1040; update r001_index set u = u + 500, v = null;
            delete from r001_index where u > 650",
            "update r001_full set b = 'changed' where ctid = (select min(ctid) from r001_full); update r001_full set a = 2 where a is null;
            delete from r001_full where ctid in (select ctid from r001_full where b = 'same' limit 2); delete from r001_empty where ctid = (select min(ctid) from r001_empty)",
        ],
        ends: &[("select count(*)::text from r001_empty", "1")],
        ..CARRIED
    },
    Carried {
        file: "003_constraints",
        what: "foreign keys and ordinary triggers of green do not act a second time, ENABLE REPLICA and ALWAYS triggers act once",
        ddl: "create table r003_parent (id int primary key); create table r003_child (id int primary key, parent int references r003_parent on delete cascade);
            create table r003_fired (id int primary key, v text); create table r003_always (id int primary key, v text); create table r003_seen (what text)",
        green: "create function r003_note() returns trigger language plpgsql as $$ begin insert into public.r003_seen values (tg_name || ' ' || tg_op); return new; end $$;
            create trigger plain before insert or update on r003_fired for each row execute function r003_note();
            create trigger replica before insert or update on r003_always for each row execute function r003_note(); alter table r003_always enable replica trigger replica;
            create trigger always after insert on r003_always for each row execute function r003_note(); alter table r003_always enable always trigger always",
        tables: &[table("r003_child", &["id"]), table("r003_fired", &["id"]), table("r003_always", &["id"])],
        steps: &[
            "insert into r003_parent select n from generate_series(1, 120) n; insert into r003_child select n, n from generate_series(1, 120) n;
            insert into r003_fired select n, 'x' from generate_series(1, 120) n; insert into r003_always values (1, 'x'), (2, 'y')",
            "delete from r003_parent where id % 2 = 0; update r003_fired set v = 'z'; update r003_always set v = 'z' where id = 2",
        ],
        ends: &[(
            "select string_agg(what || ' ' || n, ', ' order by what) from (select what, count(*) n from r003_seen group by what) s",
            "always INSERT 2, replica INSERT 2, replica UPDATE 1",
        )],
        ..CARRIED
    },
    Carried {
        file: "006_rewrite",
        what: "a table written anew by VACUUM FULL, CLUSTER or ALTER TABLE without a change of its columns",
        ddl: "create table r006_t (id int primary key, v text)",
        tables: &[table("r006_t", &["id"])],
        steps: &[
            "insert into r006_t select n, repeat('v', n) from generate_series(1, 100) n;;vacuum full r006_t;;update r006_t set v = v || '!' where id < 50",
            "begin; insert into r006_t values (1000, 'before'); cluster r006_t using r006_t_pkey; insert into r006_t values (1001, 'after'); commit;;
            begin; alter table r006_t set (fillfactor = 50); alter table r006_t alter column v set statistics 10; update r006_t set v = 'set' where id > 80; commit",
        ],
        ..CARRIED
    },
    Carried {
        file: "008_diff_schema",
        what: "columns in another order, of other types, and more of them on green, which keep their values",
        blue: "create table r008_t (id int primary key, a int, b varchar(10), gone text); alter table r008_t drop column gone; alter table r008_t add column c numeric",
        green: "create table r008_t (c text, own timestamptz default '2020-01-01', b text, id bigint primary key, note text default 'green', a numeric)",
        tables: &[Table { row: "t.id, t.a, t.b, t.c", ..table("r008_t", &["id"]) }],
        steps: &[
            "insert into r008_t select n, n, 'b' || n, n / 8.0 from generate_series(1, 150) n",
            "update r008_t set a = a + 1, b = null where id <= 100; update r008_t set id = id + 1000 where id > 100; delete from r008_t where id < 10",
        ],
        ends: &[("select string_agg(distinct note, ',') || count(own) from r008_t", "green141")],
        ..CARRIED
    },
    Carried {
        file: "009_matviews",
        what: "a materialized view refreshed beside the changes of its table",
        ddl: "create table r009_t (id int primary key, v int); create materialized view r009_mv as select sum(v) as total from r009_t",
        tables: &[table("r009_t", &["id"])],
        steps: &["insert into r009_t values (1, 1); refresh materialized view r009_mv; update r009_t set v = 2; refresh materialized view r009_mv"],
        ..CARRIED
    },
    Carried {
        file: "011_generated",
        what: "stored generated columns, computed by green, by another expression too; identities of ALWAYS that an update gives anew",
        ddl: "create table r011_same (id int primary key, v int, twice int generated always as (v * 2) stored);
            create table r011_only (id int generated always as identity primary key, v int)",
        blue: "create table r011_other (id int primary key, v int, w int generated always as (v + 1) stored)",
        green: "create table r011_other (id int primary key, w int generated always as (v * 100) stored, v int)",
        tables: &[
            table("r011_same", &["id"]),
            table("r011_only", &["id"]),
            Table { row: "t.id, t.v", ..table("r011_other", &["id"]) },
        ],
        steps: &[
            "insert into r011_same select n, n from generate_series(1, 100) n; insert into r011_other select n, n from generate_series(1, 100) n;
            insert into r011_only (v) select n from generate_series(1, 100) n",
            "update r011_same set v = -v; update r011_other set v = v + 1; update r011_only set v = v + 1",
            "delete from r011_same where id > 90;
            update r011_only set id = default where id <= 40; update r011_only set id = default, v = 0 where id = 41",
        ],
        ends: &[("select sum(w)::text from r011_other", "515000")],
        ..CARRIED
    },
    Carried {
        file: "011_generated",
        what: "in whole rows too, up to 17: 18 forbids updates of a published table whose whole rows have columns not published",
        blue_until: 17,
        ddl: "create table r011_full (v int, twice int generated always as (v * 2) stored); alter table r011_full replica identity full",
        tables: &[table("r011_full", &[])],
        steps: &[
            "insert into r011_full values (1), (2), (2)",
            "update r011_full set v = 5 where v = 1; delete from r011_full where ctid = (select min(ctid) from r011_full where v = 2)",
        ],
        ..CARRIED
    },
    Carried {
        file: "011_generated",
        what: "virtual generated columns",
        since: 18,
        ddl: "create table r011_virtual (id int primary key, v int, twice int generated always as (v * 2))",
        tables: &[table("r011_virtual", &["id"])],
        steps: &[
            "insert into r011_virtual select n, n from generate_series(1, 200) n",
            "update r011_virtual set v = 7; delete from r011_virtual where id > 20",
        ],
        ..CARRIED
    },
    Carried {
        file: "013_partition",
        what: "rows that move between partitions, leaves into one table of green's and into its other partitions, leaves emptied",
        ddl: "create table r013_same (id int, half text, v int, primary key (id, half)) partition by list (half);
            create table r013_same_a partition of r013_same for values in ('a'); create table r013_same_b partition of r013_same default",
        blue: "create table r013_p (id int, half text, v int, primary key (id, half)) partition by list (half);
            create table r013_a partition of r013_p for values in ('a');
            create table r013_b (v int, half text, id int, primary key (id, half)); alter table r013_p attach partition r013_b for values in ('b')",
        green: "create table r013_p (id int, half text, v int, primary key (id, half)) partition by range (id);
            create table r013_low partition of r013_p for values from (minvalue) to (100); create table r013_high partition of r013_p for values from (100) to (maxvalue)",
        tables: &[
            table("r013_same_a", &["id", "half"]),
            table("r013_same_b", &["id", "half"]),
            Table { green: "r013_p", row: "", ..table("r013_a", &["id", "half"]) },
            Table { green: "r013_p", row: "", ..table("r013_b", &["id", "half"]) },
        ],
        steps: &[
            "insert into r013_p select n, case when n % 2 = 0 then 'a' else 'b' end, n from generate_series(1, 200) n;
            insert into r013_same select * from r013_p",
            "update r013_p set half = 'a', v = v + 1000 where id % 10 = 1; update r013_p set id = id + 100 where id between 190 and 195; delete from r013_p where id between 20 and 40;
            update r013_same set half = 'b' where id <= 100; delete from r013_same where half = 'b' and id > 150",
            "truncate r013_same_a; insert into r013_same values (1, 'a', 1), (1, 'z', 1); update r013_p set id = 1 - id where id < 100;
            update r013_same set half = 'a' where half = 'b' and id = 7",
        ],
        alike: &["select string_agg(concat_ws(' ', id, half, v), ',' order by id, half) from r013_p"],
        ..CARRIED
    },
    Carried {
        file: "015_stream",
        what: "transactions larger than blue decodes in memory",
        ddl: "create table r015_t (id int primary key, v text)",
        tables: &[table("r015_t", &["id"])],
        steps: &[
            "insert into r015_t select n, md5(n::text) from generate_series(1, 5000) n",
            "begin; update r015_t set v = v || v where id % 2 = 0; delete from r015_t where id % 3 = 0; insert into r015_t select n, 'x' from generate_series(6000, 9000) n; commit",
        ],
        ..CARRIED
    },
    Carried {
        file: "016_stream_subxact",
        what: "savepoints released one in the other, in a large transaction",
        ddl: "create table r016_t (id int primary key, v text)",
        tables: &[table("r016_t", &["id"])],
        steps: &[
            "begin; insert into r016_t select n, repeat('a', 50) from generate_series(1, 1000) n; savepoint one; update r016_t set v = 'one' where id % 2 = 0;
            savepoint two; delete from r016_t where id % 5 = 0; insert into r016_t select n, 'two' from generate_series(1001, 2000) n; release two;
            savepoint three; update r016_t set v = v || '3' where id > 500; release one; insert into r016_t values (0, 'end'); commit",
        ],
        ..CARRIED
    },
    Carried {
        file: "018_stream_subxact_abort",
        what: "savepoints rolled back in the middle and at the end of a large transaction, and whole transactions",
        ddl: "create table r018_t (id int primary key, v text)",
        tables: &[table("r018_t", &["id"])],
        steps: &[
            "begin; insert into r018_t select n, repeat('k', 40) from generate_series(1, 800) n; savepoint a; delete from r018_t; insert into r018_t values (1, 'wrong');
            rollback to a; savepoint b; insert into r018_t select n, 'kept' from generate_series(1001, 1800) n; savepoint c; update r018_t set id = -id; rollback to b;
            insert into r018_t select n, 'end' from generate_series(2001, 2100) n; savepoint d; truncate r018_t; rollback to d; commit",
            "begin; delete from r018_t; insert into r018_t select n, 'lost' from generate_series(1, 3000) n; rollback",
        ],
        ..CARRIED
    },
    Carried {
        file: "019_stream_subxact_ddl_abort",
        what: "columns added under savepoints that were rolled back",
        ddl: "create table r019_t (id int primary key, v text)",
        tables: &[table("r019_t", &["id"])],
        steps: &[
            "begin; insert into r019_t select n, 'a' from generate_series(1, 900) n; savepoint s; alter table r019_t add column more int; insert into r019_t values (5000, 'b', 1);
            alter table r019_t alter column v type varchar(9); update r019_t set more = 1; rollback to s; insert into r019_t select n, 'c' from generate_series(1001, 1500) n; commit",
        ],
        ..CARRIED
    },
    Carried {
        file: "020_messages",
        what: "messages of others, outside of transactions, in those that failed, and beside changes",
        ddl: "create table r020_t (id int primary key)",
        tables: &[table("r020_t", &["id"])],
        steps: &[
            "begin; select pg_logical_emit_message(true, 'other', 'in it'); insert into r020_t values (1); select pg_logical_emit_message(false, 'migrate', 'not of it'); commit;;
            select pg_logical_emit_message(false, 'migrate', repeat('x', 100000));;begin; insert into r020_t values (2); select pg_logical_emit_message(true, 'migrate', 'failed'); rollback",
        ],
        ..CARRIED
    },
    Carried {
        file: "021_twophase",
        what: "a prepared transaction, at COMMIT PREPARED and not before; one rolled back, not at all",
        ddl: "create table r021_t (id int primary key, v text)",
        tables: &[Table { row: "t.id", ..table("r021_t", &["id"]) }],
        steps: &[
            "begin; insert into r021_t values (1, 'later'); prepare transaction 'r021_kept';;begin; insert into r021_t values (2, 'never'); prepare transaction 'r021_lost';;
            insert into r021_t values (3, 'between')",
            "commit prepared 'r021_kept';;rollback prepared 'r021_lost'",
        ],
        ..CARRIED
    },
    Carried {
        file: "023_twophase_stream",
        what: "the same for a transaction larger than blue decodes in memory, with savepoints in it",
        ddl: "create table r023_t (id int primary key, v text)",
        tables: &[table("r023_t", &["id"])],
        steps: &[
            "begin; insert into r023_t select n, md5(n::text) from generate_series(1, 4000) n; savepoint s; update r023_t set v = 'x'; rollback to s;
            delete from r023_t where id % 3 = 0; prepare transaction 'r023_large'",
            "commit prepared 'r023_large'",
        ],
        ..CARRIED
    },
    Carried {
        file: "028_row_filter",
        what: "rows that a publication's condition chooses, where an update brings one in or takes one out",
        ddl: "create table r028_t (id int primary key, v int)",
        tables: &[Table { published: "where (id <> 7)", row: "", ..table("r028_t", &["id"]) }],
        steps: &[
            "insert into r028_t select n, n from generate_series(1, 150) n",
            "update r028_t set id = 151 where id = 7; update r028_t set id = 7 where id = 9; update r028_t set v = 0 where id in (7, 8); delete from r028_t where id = 7; truncate r028_t;
            insert into r028_t values (6, 6), (7, 7), (8, 8)",
        ],
        ends: &[("select string_agg(id || ':' || v, ',' order by id) from r028_t", "6:6,8:8")],
        ..CARRIED
    },
    Carried {
        file: "030_origin",
        what: "rows that somebody else's replication brought to blue",
        ddl: "create table r030_t (id int primary key, v text)",
        tables: &[table("r030_t", &["id"])],
        steps: &[
            "insert into r030_t values (1, 'own'); select pg_replication_origin_create('r030_elsewhere'); select pg_replication_origin_session_setup('r030_elsewhere');;
            begin; select pg_replication_origin_xact_setup('0/1234', now()); insert into r030_t values (2, 'brought'); update r030_t set v = 'changed' where id = 1; commit;;
            select pg_replication_origin_session_reset(); select pg_replication_origin_drop('r030_elsewhere')",
        ],
        ..CARRIED
    },
    Carried {
        file: "031_column_list",
        what: "columns that a publication leaves out keep green's defaults and values",
        ddl: "create table r031_t (id int primary key, a text, secret text default 'none')",
        tables: &[Table { published: "(id, a)", row: "t.id, t.a", ..table("r031_t", &["id"]) }],
        steps: &[
            "insert into r031_t select n, 'a', 'blue only' from generate_series(1, 100) n",
            "update r031_t set secret = 'changed'; update r031_t set a = 'b' where id > 50; delete from r031_t where id = 1; update r031_t set id = 0 where id = 2",
        ],
        ends: &[("select string_agg(distinct secret, ',') from r031_t", "none")],
        ..CARRIED
    },
    Carried {
        file: "032_subscribe_use_index",
        what: "rows without a key among near ones, where green's only index tells none of them apart",
        ddl: "create table r032_t (a int, b text, c int); create index r032_a on r032_t (a); create index r032_part on r032_t (b) where c > 10; create index r032_expr on r032_t (lower(b));
            alter table r032_t replica identity full",
        tables: &[table("r032_t", &[])],
        steps: &[
            "insert into r032_t select n / 10, 'b' || n % 3, n from generate_series(1, 300) n; insert into r032_t select null, null, null from generate_series(1, 3)",
            "update r032_t set c = -c where a = 5 and b = 'b1'; delete from r032_t where a = 6 and c > 65; delete from r032_t where ctid = (select min(ctid) from r032_t where a is null)",
        ],
        ..CARRIED
    },
    Carried {
        file: "034_temporal",
        what: "a key WITHOUT OVERLAPS, by whole row and by key",
        since: 18,
        ddl: "create table r034_key (id int4range, during daterange, v text, primary key (id, during without overlaps));
            create table r034_whole (id int4range, during daterange, v text, unique (id, during without overlaps)); alter table r034_whole replica identity full",
        tables: &[table("r034_key", &["id", "during"]), table("r034_whole", &[])],
        steps: &[
            "insert into r034_key select int4range(n, n + 1), daterange('2020-01-01', '2021-01-01'), 'v' from generate_series(1, 100) n; insert into r034_key values ('[1,2)', '[2021-01-01,)', 'next');
            insert into r034_whole select * from r034_key where lower(id) < 5",
            "update r034_key set v = 'w' where lower(id) > 10; update r034_key set during = '[2020-06-01,2021-01-01)' where lower(id) = 3; delete from r034_key where lower(id) = 1 and during @> '2022-01-01'::date;
            update r034_whole set v = 'x' where lower(id) = 2; delete from r034_whole where lower(id) = 3",
        ],
        ..CARRIED
    },
    Carried {
        file: "010_truncate",
        what: "TRUNCATE of one and of several, with CASCADE and RESTART IDENTITY, of partitions, and between other changes",
        ddl: "create table r010_one (id int primary key); create table r010_parent (id serial primary key, v int);
            create table r010_child (id int primary key, parent int references r010_parent);
            create table r010_part (id int primary key) partition by range (id); create table r010_part_1 partition of r010_part for values from (0) to (10);
            create table r010_part_2 partition of r010_part for values from (10) to (20)",
        tables: &[
            table("r010_one", &["id"]),
            table("r010_parent", &["id"]),
            table("r010_child", &["id"]),
            table("r010_part_1", &["id"]),
            table("r010_part_2", &["id"]),
        ],
        steps: &[
            "insert into r010_one values (1), (2); insert into r010_parent (v) select n from generate_series(1, 10) n; insert into r010_child values (1, 1);
            insert into r010_part values (1), (11)",
            "begin; insert into r010_one values (3); truncate r010_one; insert into r010_one values (1), (4); commit; truncate r010_parent restart identity cascade;
            insert into r010_parent (v) values (100); truncate r010_part_1",
            "insert into r010_part values (2); truncate only r010_child;;begin; truncate r010_one, r010_part; rollback; truncate r010_one, r010_part; insert into r010_part values (12)",
        ],
        ends: &[("select nextval('r010_parent_id_seq')::text", "1")],
        ..CARRIED
    },
    Carried {
        file: "100_bugs",
        what: "whole rows with columns dropped, TOAST values left alone by updates and key changes, functions of green's indexes and checks",
        ddl: "create table r100_full (a int, gone int, b text, c text); alter table r100_full drop column gone;
            alter table r100_full replica identity full; alter table r100_full alter column c set storage external;
            create table r100_toast (id int primary key, long text, longer text, v int); alter table r100_toast alter column long set storage external;
            create table r100_long_key (k text primary key, v int); alter table r100_long_key alter column k set storage external;
            create function r100_even(n int) returns boolean language sql immutable as $$ select n % 2 = 0 $$;
            create table r100_checked (id int primary key, v int check (public.r100_even(v))); create index r100_expr on r100_checked (public.r100_even(id)) where public.r100_even(v)",
        tables: &[
            table("r100_full", &[]),
            table("r100_toast", &["id"]),
            table("r100_long_key", &["k"]),
            table("r100_checked", &["id"]),
        ],
        steps: &[
            "insert into r100_full values (1, 'x', repeat('c', 5000)), (1, 'x', repeat('d', 5000)), (2, null, null);
            insert into r100_toast select n, repeat(n::text, 3000), repeat(n::text, 90000), n from generate_series(1, 60) n;
            insert into r100_long_key select repeat(md5(n::text), 73), n from generate_series(1, 60) n; insert into r100_checked select n, n * 2 from generate_series(1, 100) n",
            "update r100_full set b = 'y' where c like 'd%'; update r100_toast set v = v + 1; update r100_toast set id = id + 100 where id <= 30; update r100_long_key set v = v + 1;
            update r100_checked set v = v + 2",
            "delete from r100_full where c like 'c%'; update r100_toast set longer = null, id = -id where id > 100; update r100_long_key set k = 'short' || v where v < 20; delete from r100_long_key where v > 40;
            update r100_toast set v = 0 where id < 0; delete from r100_checked where id > 50",
        ],
        ..CARRIED
    },
];
