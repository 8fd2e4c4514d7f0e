//! Types, and keys of types: 002_types, and 012_collation of its own.

use super::{CARRIED, Carried, table};

pub(super) const CASES: &[Carried] = &[
    Carried {
        file: "002_types",
        what: "a column of nearly every built-in type, of enums, composites, domains, ranges, arrays of them and extensions, found by key and by whole row",
        ddl: "create extension hstore; create extension citext; create extension ltree;
            create type r002_hue as enum ('red', 'gray blue', 'it''s');
            create type r002_spot as (x int, label text, marks numeric[]);
            create domain r002_count as int check (value >= 0);
            create domain r002_must as text not null check (value <> '');
            create type r002_span as range (subtype = float8);
            create table r002_all (id bigint primary key, b boolean, c char(4), ch \"char\", n name, v varchar(30), i2 int2, r real, d float8,
                num numeric, scaled numeric(12, 3), cash money, by bytea, bits bit(5), vb varbit, dt date, tm time, ttz timetz, ts timestamp,
                tstz timestamptz, iv interval, u uuid, js json, jb jsonb, jp jsonpath, ip inet, net cidr, mac macaddr, mac8 macaddr8, pt point,
                ln line, ls lseg, bx box, pa path, po polygon, ci circle, ir int4range, nr numrange, mr datemultirange, sr r002_span,
                tv tsvector, tq tsquery, lsn pg_lsn, o oid, hue r002_hue, hues r002_hue[], spot r002_spot, spots r002_spot[],
                counted r002_count, counts r002_count[], must r002_must, grid int[], deep text[], h hstore, ct citext, lt ltree);
            create table r002_whole (like r002_all);
            alter table r002_whole replica identity full",
        tables: &[table("r002_all", &["id"]), table("r002_whole", &[])],
        steps: &[
            r#"insert into r002_all values
                (1, true, 'ab', 'z', 'Name', 'v', -32768, 1.1, 0.1, 1.500, -0.001, 1234.56, '\xdeadbeef00', '10101', '1', 'infinity', '24:00:00', '10:00:00.5-08',
                 '0044-03-15 12:00:00 BC', '2024-02-29 23:59:59.999999+14', '1 year -2 mons 3 days -04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
                 '{"b": 1, "a": [null, "\u00e9"], "b": 2}', '{"b": 1.10, "a": "\t"}', '$.a[*] ? (@ > 1)', '10.1.2.3/8', '10.0.0.0/8', '08:00:2b:01:02:03',
                 '08:00:2b:01:02:03:04:05', '(0.1,-0)', '{1,2,3}', '[(0,0),(1,1)]', '(2,2),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),2.5>',
                 '[1,5)', '(,)', '{[2024-01-01,2024-02-01),[2025-01-01,)}', '[0.1,0.2]', 'a:1A fat:2B,4', 'fat & (rat | !cat)', '16/B374D848', 4294967295,
                 'it''s', '{red,"gray blue",NULL}', '(1,"a,""b""(","{1.0,NaN}")', '{"(,\"\",)",NULL}', 7, '{1,2}', 'must',
                 '[0:1][2:3]={{1,2},{3,4}}', '{"NULL",NULL,"","a\\b","c\"d"}', 'k=>v, "a b"=>NULL', 'CaseKept', 'Top.Science.X'),
                (2, false, '', '', '', '', 32767, 'NaN', '-Infinity', 'Infinity', null, -0.01, '', '00000', '', '-infinity', '00:00:00', '00:00:00+15:59',
                 'infinity', '-infinity', '0', null, 'null', 'null', '$', '::1', '::/0', null, null, '(NaN,Infinity)', null, null, null, '((0,0),(1,1))', null, null,
                 'empty', '[1.0,1.00]', '{}', 'empty', '', '', '0/0', 0, 'red', '{}', '(,,)', '{}', 0, '{}', 'x', '{}', '{}', '', '', ''),
                (3, null, null, null, null, null, null, null, '5e-324', '1e-130', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
                 null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, 'only',
                 null, null, null, null, null);
            insert into r002_all (id, must, d, num, spot) select n, 'row ' || n, n / 3.0, n / 7.0, row(n, null, '{}')::r002_spot from generate_series(10, 200) n;
            insert into r002_whole select * from r002_all where id < 20"#,
            "update r002_all set scaled = id, c = 'x' where id < 100; update r002_all set must = upper(must), spot = row(null, null, null);
            update r002_all set d = 'NaN', r = '-0' where id = 2; delete from r002_all where id > 150;
            update r002_whole set scaled = 1.5 where id <= 3; delete from r002_whole where id > 14;
            update r002_whole set spot = row(null, null, null), c = null where id = 1",
            "update r002_whole set id = id + 100; delete from r002_whole where id in (101, 102)",
        ],
        ..CARRIED
    },
    Carried {
        file: "002_types",
        what: "keys of the same types, changed and unchanged, also to an equal value that is written otherwise (1.0 and 1.00)",
        ddl: "create table r002_enum (k r002_hue, n int, v int, primary key (k, n));
            create table r002_domain (k r002_must primary key, v r002_must);
            create table r002_comp (k r002_spot primary key, v int);
            create table r002_array (k int[] primary key, v int);
            create table r002_range (k int4range primary key, v int);
            create table r002_num (k numeric primary key, v int);
            create table r002_iv (k interval primary key, v int);
            create table r002_char (k char(6) primary key, v int);
            create table r002_float (k float8 primary key, v int);
            create table r002_bytea (k bytea primary key, v int);
            create table r002_json (k jsonb primary key, v int);
            create table r002_tstz (k timestamptz primary key, v int);
            create table r002_inet (k inet primary key, v int);
            create table r002_ltree (k ltree primary key, v int);
            create table r002_citext (k citext primary key, v int);
            create table r002_hstore (k hstore primary key, v int)",
        tables: &[
            table("r002_enum", &["k", "n"]),
            table("r002_domain", &["k"]),
            table("r002_comp", &["k"]),
            table("r002_array", &["k"]),
            table("r002_range", &["k"]),
            table("r002_num", &["k"]),
            table("r002_iv", &["k"]),
            table("r002_char", &["k"]),
            table("r002_float", &["k"]),
            table("r002_bytea", &["k"]),
            table("r002_json", &["k"]),
            table("r002_tstz", &["k"]),
            table("r002_inet", &["k"]),
            table("r002_ltree", &["k"]),
            table("r002_citext", &["k"]),
            table("r002_hstore", &["k"]),
        ],
        steps: &[
            r#"insert into r002_enum select (enum_range(null::r002_hue))[1 + n % 3], n, n from generate_series(1, 80) n;
            insert into r002_domain select 'k' || n, 'v' from generate_series(1, 80) n;
            insert into r002_comp select row(n, 'a "quoted", ' || n, array[n, null])::r002_spot, n from generate_series(1, 80) n;
            insert into r002_array select array[n, null, -n], n from generate_series(1, 80) n;
            insert into r002_range select int4range(n, 2 * n + 1), n from generate_series(1, 80) n;
            insert into r002_num select n::numeric(9, 1), n from generate_series(1, 80) n; insert into r002_num values ('NaN', 0), ('Infinity', 0);
            insert into r002_iv select make_interval(hours => 24 * n), n from generate_series(1, 80) n;
            insert into r002_char select 'c' || n, n from generate_series(1, 80) n;
            insert into r002_float select n / 10.0, n from generate_series(0, 80) n; insert into r002_float values ('NaN', 0), ('-Infinity', 0);
            insert into r002_bytea select decode(lpad(to_hex(n), 4, '0'), 'hex'), n from generate_series(1, 80) n; insert into r002_bytea values ('', 0);
            insert into r002_json select jsonb_build_object('k', n, 'x', n + 0.10), n from generate_series(1, 80) n;
            insert into r002_tstz select '2024-03-31 00:59:59.5+00'::timestamptz + n * interval '13 minutes', n from generate_series(1, 80) n;
            insert into r002_inet select '10.0.0.0/24'::inet + n, n from generate_series(1, 80) n;
            insert into r002_ltree select ('Top.n' || n)::ltree, n from generate_series(1, 80) n;
            insert into r002_citext select 'Mixed' || n, n from generate_series(1, 80) n;
            insert into r002_hstore select hstore('k', n::text), n from generate_series(1, 80) n"#,
            "update r002_enum set v = v + 1; update r002_domain set v = 'w'; update r002_comp set v = v + 1; update r002_array set v = v + 1;
            update r002_range set v = v + 1; update r002_num set v = v + 1; update r002_iv set v = v + 1; update r002_char set v = v + 1;
            update r002_float set v = v + 1; update r002_bytea set v = v + 1; update r002_json set v = v + 1; update r002_tstz set v = v + 1;
            update r002_inet set v = v + 1; update r002_ltree set v = v + 1; update r002_citext set v = v + 1; update r002_hstore set v = v + 1",
            "update r002_num set k = round(k, 2) where k <> 'NaN' and k <> 'Infinity'; update r002_iv set k = make_interval(days => v - 1) where v < 60;
            update r002_float set k = '-0' where k = 0; update r002_citext set k = upper(k::text)::citext where v < 60; update r002_enum set k = 'red' where v > 40;
            update r002_json set k = jsonb_build_object('k', v - 1, 'x', v - 1 + 0.1000) where v < 60; update r002_domain set k = upper(k);
            update r002_comp set k = row((k).x, null, (k).marks)::r002_spot where v > 40; update r002_ltree set k = k || 'leaf' where v < 60",
            "delete from r002_num where v % 2 = 0; delete from r002_iv where v % 2 = 0; delete from r002_float where v % 2 = 0; delete from r002_citext where v % 2 = 0;
            delete from r002_ltree where v % 2 = 0; delete from r002_comp where v % 2 = 0; delete from r002_domain where right(k, 1) = '7'; delete from r002_json where v % 2 = 0;
            delete from r002_hstore where v % 2 = 0; delete from r002_char where v % 2 = 0; delete from r002_inet where v % 2 = 0",
        ],
        ..CARRIED
    },
    Carried {
        file: "012_collation",
        what: "rows told apart by text that a collation holds to be equal: a key changed in case only, and rows without a key",
        ddl: "create collation r012_ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
            create table r012_key (k text collate r012_ci primary key, v int);
            create table r012_whole (a text collate r012_ci, n int);
            alter table r012_whole replica identity full",
        tables: &[table("r012_key", &["k"]), table("r012_whole", &[])],
        steps: &[
            "insert into r012_key select 'Key ' || n, n from generate_series(1, 100) n;
            insert into r012_whole values ('STRASSE', 1), ('strasse', 1), ('Strasse', 1), ('other', 2)",
            "update r012_key set v = v + 1; update r012_key set k = lower(k) where v % 2 = 0;
            delete from r012_whole where a = 'Strasse' collate \"C\"; update r012_whole set n = 7 where a = 'strasse' collate \"C\"",
            "delete from r012_key where v % 3 = 0; insert into r012_key select 'KEY ' || n, -n from generate_series(1, 100) n on conflict do nothing;
            update r012_key set k = upper(k)",
        ],
        ..CARRIED
    },
];
