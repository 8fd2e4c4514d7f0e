//! The copy of tables that are split, and of tables that are merged.

use super::stage::{Stage, deaf, in_pieces, in_ranges};
use migrate::copy::rows::{self, CopySpec, CopyTable};
use migrate::error::Kind;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ROWS: i64 = 8000;

/// A row is in `hot` or in `cold`, never in both.
const BLUE: &str = "create table public.account (id int primary key, mail text, secret text, kind text not null);
    insert into public.account select n, 'M' || n, 's' || n, case when n % 3 > 0 then 'person' else 'robot' end from generate_series(1, 5000) n;
    create table public.hot (id int primary key, note text);
    create table public.cold (id int primary key, note text);
    insert into public.hot select n, repeat('x', 200) from generate_series(1, 4000) n;
    insert into public.cold select n, repeat('x', 200) from generate_series(4001, 8000) n;
    create table public.same (id int primary key); insert into public.same values (1)";
const GREEN: &str = "create table public.person (id bigint, mail text);
    create table public.vault (owner int, secret text);
    create table public.record (id int, note text, origin text not null);
    create table public.same (id int primary key)";

fn maps() -> [(&'static str, Option<usize>, TableMap); 4] {
    let map = |to: &str, columns: &[(&str, &str)], condition: Option<&str>| TableMap {
        to: Some(TableName::new("public", to)),
        columns: columns.iter().map(|(name, text)| (Ident::new(*name), (*text).to_owned())).collect(),
        condition: condition.map(str::to_owned),
        ..TableMap::default()
    };
    [
        ("account", Some(0), map("person", &[("mail", "lower(mail)")], Some("kind = 'person'"))),
        ("account", Some(1), map("vault", &[("owner", "id")], None)),
        ("hot", None, map("record", &[("origin", "'hot'::text")], None)),
        ("cold", None, map("record", &[("origin", "'cold'::text")], None)),
    ]
}

async fn spec(stage: &Stage) -> CopySpec {
    let facts = catalog::read(&stage.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let mut spec = stage.spec().await;
    let mut tables: Vec<CopyTable> = Vec::new();
    for table in std::mem::take(&mut spec.tables) {
        let parts: Vec<_> =
            maps().into_iter().filter(|(name, ..)| *name == table.blue.name.as_str()).collect();
        if parts.is_empty() {
            tables.push(table);
            continue;
        }
        for (_, part, map) in parts {
            let blue = BlueTable { tells_all: true, ..BlueTable::of(facts.table(&table.blue).unwrap()) };
            let green = map.target(&table.blue);
            tables.push(CopyTable {
                green,
                mapping: Some(Arc::new(Mapping { map, part, blue })),
                ..table.clone()
            });
        }
    }
    spec.tables = tables;
    spec
}

async fn ask(stage: &Stage, on_green: bool, rows: &str) -> String {
    let client = if on_green { &stage.green } else { &stage.blue };
    let sql = format!(
        "select coalesce(string_agg(t::text, ',' order by t::text collate \"C\"), '') from ({rows}) t"
    );
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn split_and_merged_tables_arrive_once_and_in_pieces() {
    let stage = Stage::set("copy_reshaped").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    for pieces in [false, true, true] {
        let spec = if pieces { in_pieces(spec(&stage).await, "account") } else { spec(&stage).await };
        let totals = rows::copy(spec, deaf()).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
        assert_eq!((totals.tables, totals.rows), (4, 3334 + 5000 + 8000 + 1));
        for (blue, green) in [
            (
                "select id, lower(mail) from public.account where kind = 'person'",
                "select id, mail from public.person",
            ),
            ("select id, secret from public.account", "select owner, secret from public.vault"),
            (
                "select id, note, 'hot' from public.hot union all select id, note, 'cold' from public.cold",
                "select id, note, origin from public.record",
            ),
        ] {
            assert!(ask(&stage, false, blue).await == ask(&stage, true, green).await, "{green}");
        }
        let marked =
            stage.count(&stage.green, "select count(*) from migrate.copy_table where state = 'done'").await;
        assert_eq!(marked, 4);
        if pieces {
            stage.green.batch_execute("delete from migrate.copy_table").await.unwrap();
        }
    }
    let error = rows::copy(in_ranges(spec(&stage).await, "account"), deaf()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Request);
    assert!(error.what.contains("it is split or merged on green"), "{}", error.what);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_move_between_merged_tables_while_they_are_copied_are_there_once() {
    let stage = Stage::set("copy_moving").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    let mover = stage.pair.blue().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let moving = tokio::spawn(async move {
        let mut moves = 0;
        while !stopped.load(Ordering::Relaxed) {
            let (from, to) = if moves % 2 == 0 { ("hot", "cold") } else { ("cold", "hot") };
            let sql = format!(
                "with gone as (delete from {from} where id % 8 = {} returning *) insert into {to} select * from gone",
                moves / 2 % 8
            );
            mover.batch_execute(&sql).await.unwrap();
            moves += 1;
        }
        moves
    });
    for _ in 0..5 {
        rows::copy(spec(&stage).await, deaf()).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
        let (rows, keys) = (
            stage.count(&stage.green, "select count(*) from public.record").await,
            stage.count(&stage.green, "select count(distinct id) from public.record").await,
        );
        assert_eq!((rows, keys), (ROWS, ROWS));
        let moments = stage
            .count(&stage.green, "select count(distinct seen_lsn) from migrate.copy_table where table_name in ('public.hot', 'public.cold')")
            .await;
        assert_eq!(moments, 1);
        stage.green.batch_execute("delete from migrate.copy_table").await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(moving.await.unwrap() > 5);
}
