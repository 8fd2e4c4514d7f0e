//! Following tables that are split over several of green's, and several that are merged into one.

use super::{PATIENCE, Scene};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use migrate::stream::follow::{FollowStatus, FollowTable};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// `account` is split into three, `hot` and `cold` are merged: rows move between the two.
const BLUE: &str =
    "create table public.account (id int primary key, mail text, secret text, kind text not null);
    alter table public.account alter column secret set storage external;
    alter table public.account replica identity full;
    create table public.hot (id int primary key, note text);
    create table public.cold (id int primary key, note text, since int);
    alter table public.cold alter column note set storage external;
    create table public.log (id int primary key, note text)";
const GREEN: &str = "create table public.person (id bigint primary key, mail text);
    create table public.vault (owner int primary key, secret text);
    create table public.robot (name text primary key, kind text);
    create table public.record (id int primary key, note text, origin text not null, since int)";
const BLUES_ROWS: [&str; 4] = [
    "select id::bigint as id, lower(mail) as mail from account where kind = 'person'",
    "select id as owner, secret from account",
    "select 'r' || id as name, kind from account where kind <> 'person'",
    "select id, note, 'hot' as origin, null::int as since from hot union all select id, note, 'cold', since from cold",
];
const GREENS_ROWS: [&str; 4] =
    ["select * from person", "select * from vault", "select * from robot", "select * from record"];

fn map(to: &str, columns: &[(&str, &str)], condition: Option<&str>) -> TableMap {
    TableMap {
        to: Some(TableName::new("public", to)),
        columns: columns.iter().map(|(name, text)| (Ident::new(*name), (*text).to_owned())).collect(),
        condition: condition.map(str::to_owned),
        ..TableMap::default()
    }
}

fn maps() -> [(&'static str, Option<usize>, TableMap); 5] {
    [
        ("account", Some(0), map("person", &[("mail", "lower(mail)")], Some("kind = 'person'"))),
        ("account", Some(1), map("vault", &[("owner", "id")], None)),
        ("account", Some(2), map("robot", &[("name", "'r' || id")], Some("kind <> 'person'"))),
        ("hot", None, map("record", &[("origin", "'hot'::text")], None)),
        ("cold", None, map("record", &[("origin", "'cold'::text")], None)),
    ]
}

async fn set(name: &str, blue: u32, green: u32) -> Scene {
    let pair = Pair::of_majors(name, blue, green).await;
    let key: &[&str] = &["id"];
    let mut scene =
        Scene::set(pair, BLUE, &[("account", key), ("hot", key), ("cold", key), ("log", key)]).await;
    scene.green.batch_execute(GREEN).await.unwrap();
    let facts = catalog::read(&scene.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let followed = |(name, part, map): (&str, Option<usize>, TableMap)| {
        let table = facts.table(&TableName::new("public", name)).unwrap();
        FollowTable {
            blue: table.name.clone(),
            green: map.target(&table.name),
            key: vec![Ident::new("id")],
            mapping: Some(Arc::new(Mapping { map, part, blue: BlueTable::of(table) })),
        }
    };
    let log = scene.spec.tables.pop();
    scene.spec.tables = maps().into_iter().map(followed).chain(log).collect();
    scene
}

async fn caught_up(scene: &Scene) -> FollowStatus {
    let follower = scene.follow();
    scene.drained(&follower, &format!("{:016x}", rand::random::<u64>())).await;
    let status = follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
    assert_reshaped(scene).await;
    status
}

async fn assert_reshaped(scene: &Scene) {
    for (blue, green) in BLUES_ROWS.iter().zip(GREENS_ROWS) {
        let text = |rows: &str| {
            format!(
                "select coalesce(string_agg(md5(t::text), E'\\n' order by md5(t::text)), '') || count(*) from ({rows}) t"
            )
        };
        let on_blue: String = scene.blue.query_one(&text(blue), &[]).await.unwrap().get(0);
        let on_green: String = scene.green.query_one(&text(green), &[]).await.unwrap().get(0);
        assert!(on_blue == on_green, "{green} differs");
    }
}

const CROWD: &str = "insert into account select n, 'M' || n, repeat('s', 3000), case when n % 3 > 0 then 'person' else 'robot' end from generate_series(1, 200) n;
    insert into hot select n, 'n' || n from generate_series(1, 200) n; insert into cold select n, repeat('c', 3000), n from generate_series(201, 400) n;";

/// Rows of `hot` turn cold and back, both ways round.
const MOVES: &str = "
    with gone as (delete from hot where id % 4 = 0 returning *) insert into cold select id, note, 1 from gone;
    begin; insert into hot select id, note from cold where id % 5 = 0; delete from cold where id % 5 = 0; commit;
    begin; delete from hot where id = 1; insert into cold values (1, 'a', 1); delete from cold where id = 1; insert into hot values (1, 'b'); commit;
    update cold set since = since + 1 where id % 3 = 0; update hot set note = 'x' where id % 7 = 0;
    update hot set id = id + 1000 where id % 9 = 0; insert into cold select id - 1000, 'again', 0 from hot where id > 1000;";

const CHANGES: &str =
    "update account set mail = 'New' || id where id % 4 = 0; update account set kind = 'robot' where id % 5 = 0;
    update account set kind = 'person' where id % 10 = 0; update account set kind = 'machine' where id % 7 = 0; update account set id = id + 500 where id % 11 = 0;
    delete from account where id % 13 = 0; insert into account values (13, 'x', 'y', 'person'), (26, 'x', null, 'z')";

async fn histories(scene: &Scene) -> u64 {
    scene.run(CROWD).await;
    let mut set_based = caught_up(scene).await.set_based;
    for history in [
        MOVES,
        CHANGES,
        "update hot set note = 'one' where id = 2; begin; insert into cold values (2, 'moved', 1); delete from hot where id = 2; commit",
    ] {
        scene.run(history).await;
        let status = caught_up(scene).await;
        assert_eq!(status.replayed, 0, "{status:?}");
        set_based += status.set_based;
    }
    scene.run("truncate account; insert into account values (1, 'a', 'b', 'person')").await;
    caught_up(scene).await;
    scene.run("truncate hot, cold; insert into hot values (1, 'a')").await;
    caught_up(scene).await;
    set_based
}

#[tokio::test]
async fn split_and_merged_tables_are_followed_set_by_set() {
    let scene = set("reshaped_sets", 15, 18).await;
    assert!(histories(&scene).await > 3);
}

#[tokio::test]
async fn the_same_between_servers_of_one_major() {
    let scene = set("reshaped_same", 15, 15).await;
    assert!(histories(&scene).await > 3);
}

/// Transactions over few keys, in which rows change tables.
fn random_history(seed: u64, transactions: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sql = String::new();
    for number in 0..transactions {
        let _ = writeln!(sql, "begin;");
        for _ in 0..random.random_range(1..6) {
            let id = random.random_range(1..40);
            let long = random.random_range(0..5000);
            let kind = ["person", "robot", "x"][random.random_range(0..3)];
            let _ = match random.random_range(0..9) {
                0 => writeln!(
                    sql,
                    "insert into hot select {id}, 'h{number}' where not exists (select from cold where id = {id}) on conflict do nothing;"
                ),
                1 => writeln!(
                    sql,
                    "insert into cold select {id}, repeat('c', {long}), {number} where not exists (select from hot where id = {id}) on conflict do nothing;"
                ),
                2 => writeln!(
                    sql,
                    "insert into cold select id, note, {number} from hot where id % 5 = {id} % 5; delete from hot where id % 5 = {id} % 5;"
                ),
                3 => writeln!(
                    sql,
                    "with gone as (delete from cold where id % 3 = {id} % 3 returning *) insert into hot select id, note from gone;"
                ),
                4 => writeln!(
                    sql,
                    "delete from hot where id = {id}; update cold set since = {number} where id % 2 = 0;"
                ),
                5 => writeln!(
                    sql,
                    "insert into account values ({id}, 'M{number}', repeat('s', {long}), '{kind}') on conflict (id) do update set kind = excluded.kind;"
                ),
                6 => writeln!(
                    sql,
                    "update account set kind = '{kind}' where id % 4 = {id} % 4; delete from account where id = {id};"
                ),
                7 => writeln!(
                    sql,
                    "savepoint s; delete from cold; delete from hot; update account set id = -id; rollback to s;"
                ),
                _ => writeln!(
                    sql,
                    "update account set mail = 'N{number}' where id % 3 = {id} % 3; update hot set note = 'u{number}' where id % 3 = 0;"
                ),
            };
        }
        let _ = writeln!(sql, "commit;");
    }
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_killed_again_and_again_under_writers_loses_nothing() {
    for (blue, green) in [(15, 18), (15, 15)] {
        let scene = set(&format!("reshaped_killed_{green}"), blue, green).await;
        for seed in 0..3u64 {
            let (history, writer) = (random_history(seed, 300), scene.pair.blue().await);
            let writing = tokio::spawn(async move {
                writer.batch_execute(&history).await.map_err(|error| format!("{error:?}"))
            });
            let mut wait_ms = 40;
            while !writing.is_finished() {
                let follower = scene.follow();
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                assert!(follower.failure().is_none(), "seed {seed}: {:?}", follower.failure());
                drop(follower);
                wait_ms = wait_ms * 3 / 2;
            }
            writing.await.unwrap().unwrap();
            let status = caught_up(&scene).await;
            eprintln!("seed {seed}: {} set by set, {} replayed", status.set_based, status.replayed);
        }
    }
}

/// Rows that move the other way round: they are twice there for a moment, in blue's order.
#[tokio::test]
async fn rows_move_beside_changes_that_have_no_net_effect_and_by_the_ten_thousand() {
    let scene = set("reshaped_beside", 15, 18).await;
    scene
        .green
        .batch_execute(
            "create function public.pass() returns trigger language plpgsql as 'begin return new; end';
             create trigger fires before insert on public.log for each row execute function public.pass();
             alter table public.log enable always trigger fires",
        )
        .await
        .unwrap();
    scene
        .run(
            "insert into hot select n, 'n' from generate_series(1, 60000) n; insert into log values (1, 'a')",
        )
        .await;
    caught_up(&scene).await;
    let turn = "insert into cold select id, note, 1 from hot where id <= 20; delete from hot where id <= 20;
        insert into log values (2, 'b'); update log set note = 'c' where id = 1";
    scene.run(turn).await;
    caught_up(&scene).await;
    scene.run("truncate log; insert into hot select id, note from cold; delete from cold; insert into log values (3, 'c')").await;
    caught_up(&scene).await;
    // More than a batch takes, in one transaction.
    scene.run("insert into cold select id, note, 1 from hot; delete from hot").await;
    let status = caught_up(&scene).await;
    assert_eq!(status.replayed, 0, "{status:?}");
    let logged: String =
        scene.green.query_one("select string_agg(id || note, ',') from log", &[]).await.unwrap().get(0);
    assert_eq!(logged, "3c");
}

#[tokio::test]
async fn two_rows_with_one_key_of_a_merged_table_stop_the_stream_in_words() {
    let scene = set("reshaped_conflict", 15, 18).await;
    scene.run("insert into hot values (1, 'a'), (2, 'b')").await;
    caught_up(&scene).await;
    scene.run("insert into cold values (2, 'c', 1)").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert_eq!(
        error.what,
        "a row of public.cold has a key of public.record (record_pkey) that another row has there: tables that are merged must not share keys"
    );
    // Once blue has given one of them up, following goes on.
    scene.run("delete from hot where id = 2").await;
    caught_up(&scene).await;
}

#[tokio::test]
async fn one_of_several_merged_tables_is_not_truncated() {
    let scene = set("reshaped_truncate", 15, 18).await;
    scene.run("insert into hot values (1, 'a'); insert into cold values (2, 'b', 1)").await;
    caught_up(&scene).await;
    scene.run("truncate hot").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert!(
        error
            .what
            .starts_with("blue truncated public.hot, and public.record on green has rows of other tables"),
        "{}",
        error.what
    );
    let left: i64 = scene.green.query_one("select count(*) from record", &[]).await.unwrap().get(0);
    assert_eq!(left, 2);
}
