//! Following into another shape: renamed, computed, dropped, chosen by a condition, set by set and row by row.

use super::{PATIENCE, Scene};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use migrate::stream::follow::FollowStatus;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;
use std::sync::Arc;

/// `client` has the default identity; `item` tells whole rows, and only some of it goes to green.
const BLUE: &str =
    "create table public.client (id bigint primary key, title text, uris text, age int, kind text);
    alter table public.client alter column title set storage external;
    alter table public.client alter column uris set storage external;
    create table public.item (id int primary key, owner text not null, body text, active boolean not null);
    alter table public.item alter column body set storage external;
    alter table public.item replica identity full";
const GREEN: &str = "create table public.app (key numeric primary key, name text, tags text[], twice int, tenant uuid not null, note text default 'own');
    create table public.active (label text primary key, id bigint unique, text varchar)";
const BLUES_ROWS: [&str; 2] = [
    "select (id * 10 + 1)::numeric as key, title as name, string_to_array(uris, '|') as tags, age * 2 as twice,
        '6c1b1f2e-0000-4000-8000-000000000001'::uuid as tenant from client",
    "select owner || ':' || id as label, id::bigint as id, body::varchar as text from item where active and owner <> 'nobody'",
];
const GREENS_ROWS: [&str; 2] = ["select key, name, tags, twice, tenant from app", "select * from active"];

fn maps() -> [(&'static str, TableMap); 2] {
    let columns = |given: &[(&str, &str)]| {
        given.iter().map(|(name, text)| (Ident::new(*name), (*text).to_owned())).collect()
    };
    let client = TableMap {
        to: Some(TableName::new("public", "app")),
        columns: columns(&[
            ("key", "client.id * 10 + 1 -- of the row's own id"),
            ("name", "title"),
            ("tags", "string_to_array(uris, '|')"),
            ("twice", "age * 2"),
            ("tenant", "'6c1b1f2e-0000-4000-8000-000000000001'::uuid"),
        ]),
        drop: vec![Ident::new("kind")],
        ..TableMap::default()
    };
    let item = TableMap {
        to: Some(TableName::new("public", "active")),
        columns: columns(&[("label", "owner || ':' || id"), ("text", "body")]),
        drop: vec![Ident::new("active")],
        condition: Some("active and owner <> 'nobody'".into()),
        ..TableMap::default()
    };
    [("client", client), ("item", item)]
}

async fn set(name: &str, blue: u32, green: u32) -> Scene {
    let pair = Pair::of_majors(name, blue, green).await;
    let mut scene = Scene::set(pair, BLUE, &[("client", &["id"]), ("item", &["id"])]).await;
    scene.green.batch_execute(GREEN).await.unwrap();
    let facts = catalog::read(&scene.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    for (table, (name, map)) in scene.spec.tables.iter_mut().zip(maps()) {
        table.green = map.target(&table.blue);
        let blue = BlueTable::of(facts.table(&TableName::new("public", name)).unwrap());
        table.mapping = Some(Arc::new(Mapping { map, part: None, blue }));
    }
    scene
}

/// Applies what blue has, and compares with what the expressions make of blue's rows.
async fn caught_up(scene: &Scene) -> FollowStatus {
    let follower = scene.follow();
    scene.drained(&follower, &format!("{:016x}", rand::random::<u64>())).await;
    let status = follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
    assert_mapped(scene).await;
    status
}

async fn assert_mapped(scene: &Scene) {
    for (blue, green) in BLUES_ROWS.iter().zip(GREENS_ROWS) {
        let text = |rows: &str| {
            format!(
                "select coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '') from ({rows}) t"
            )
        };
        let blue: String = scene.blue.query_one(&text(blue), &[]).await.unwrap().get(0);
        let on_green: String = scene.green.query_one(&text(green), &[]).await.unwrap().get(0);
        let only = |one: &str, other: &str| -> Vec<String> {
            let lines = one.lines().filter(|line| !other.lines().any(|it| it == *line));
            lines.map(|line| line.chars().take(120).collect()).collect()
        };
        assert!(
            blue == on_green,
            "{green}\n blue: {:#?}\n green: {:#?}",
            only(&blue, &on_green),
            only(&on_green, &blue)
        );
    }
}

const CROWD: &str = "insert into client select n, 'title ' || n || repeat('t', 3000), 'a|b' || repeat('u', 3000), n, 'k' from generate_series(1, 200) n;
    insert into item select n, case when n % 5 = 0 then 'nobody' else 'o' || n end, repeat('b', 3000), n % 3 > 0 from generate_series(1, 200) n;";

const EVERY_CHANGE: &str = "
    update client set age = age + 1; update client set title = 'short', kind = 'x' where id % 7 = 0;
    update client set uris = uris || '|c' where id % 9 = 0; update client set age = null where id % 11 = 0;
    update item set active = not active where id % 4 = 0; update item set owner = 'nobody' where id % 6 = 0;
    update item set owner = 'back' where id % 12 = 0; update item set body = null where id % 10 = 0;
    update item set active = not active where id % 8 = 0;
    delete from client where id % 13 = 0; delete from item where id % 13 = 0;
    insert into client values (13, 'anew', null, 1, null); insert into item values (13, 'anew', 'b', true), (26, 'anew', 'b', false);";

#[tokio::test]
async fn a_backlog_is_mapped_set_by_set() {
    let scene = set("mapped_sets", 15, 18).await;
    scene.run(CROWD).await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    scene.run(EVERY_CHANGE).await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    // What is green's own stays, and comes anew with a new row.
    scene.green.batch_execute("update app set note = 'changed'").await.unwrap();
    scene.run("update client set age = 7; delete from client where id = 1; insert into client values (1, 't', 'u', 1, 'k')").await;
    caught_up(&scene).await;
    let own: i64 =
        scene.green.query_one("select count(*) from app where note = 'own'", &[]).await.unwrap().get(0);
    assert_eq!(own, 1);
    // Keys that change, with and without their large values.
    scene.run("update item set id = -id; update item set owner = owner || '!' where id < -50; update client set id = -id where id % 7 = 0").await;
    caught_up(&scene).await;
    scene.run("truncate client; insert into client values (5, 'a', 'b', 1, 'k'); truncate item").await;
    caught_up(&scene).await;
}

#[tokio::test]
async fn the_same_is_mapped_row_by_row() {
    let scene = set("mapped_rows", 15, 18).await;
    // A trigger that fires for us makes the sets step aside.
    scene
        .green
        .batch_execute(
            "create function public.pass() returns trigger language plpgsql as 'begin return new; end';
             create trigger fires before insert on public.app for each row execute function public.pass();
             alter table public.app enable always trigger fires;
             create trigger fires before insert on public.active for each row execute function public.pass();
             alter table public.active enable always trigger fires",
        )
        .await
        .unwrap();
    scene.run(CROWD).await;
    scene.run(EVERY_CHANGE).await;
    scene.run("update item set id = -id; update item set owner = owner || '!' where id < -50; update client set id = -id where id % 7 = 0").await;
    let status = caught_up(&scene).await;
    assert_eq!(status.set_based, 0, "{status:?}");
}

/// Transactions over few keys, so that the same ones meet again in a batch.
fn random_history(seed: u64, transactions: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sql = String::new();
    for number in 0..transactions {
        let _ = writeln!(sql, "begin;");
        for _ in 0..random.random_range(1..6) {
            let (id, other) = (random.random_range(1..30), random.random_range(1..30));
            let long = random.random_range(0..5000);
            let owner = ["nobody", "a", "b", "c"][random.random_range(0..4)];
            let active = random.random_bool(0.6);
            let _ = match random.random_range(0..12) {
                0 | 1 => writeln!(
                    sql,
                    "insert into item values ({id}, '{owner}', repeat('x', {long}), {active}) on conflict do nothing;"
                ),
                2 => writeln!(
                    sql,
                    "insert into client values ({id}, repeat('t', {long}), 'u|{other}', {number}, 'k') on conflict do nothing;"
                ),
                3 => {
                    writeln!(sql, "delete from item where id = {id}; delete from client where id = {other};")
                }
                4 => writeln!(sql, "update item set active = {active}, owner = '{owner}' where id = {id};"),
                5 => writeln!(sql, "update item set body = 'b{number}' where id in ({id}, {other});"),
                6 => writeln!(
                    sql,
                    "update item set id = {other} where id = {id} and not exists (select from item where id = {other});"
                ),
                7 if seed % 2 == 1 => writeln!(
                    sql,
                    "update client set id = {other} where id = {id} and not exists (select from client where id = {other});"
                ),
                8 => writeln!(
                    sql,
                    "update client set age = {number} where id = {id}; update client set uris = repeat('v|', {long}) where id = {other};"
                ),
                9 => writeln!(
                    sql,
                    "savepoint s; update item set active = not active; update client set age = 0; rollback to s;"
                ),
                _ => writeln!(sql, "update item set active = not active where id % 5 = {id} % 5;"),
            };
        }
        let _ = writeln!(sql, "commit;");
    }
    sql
}

#[tokio::test]
async fn random_histories_end_as_the_expressions_say() {
    let scene = set("mapped_random", 15, 18).await;
    let mut set_based = 0;
    for seed in 0..4u64 {
        let history = random_history(seed, 120);
        match seed {
            // While it is followed, transaction by transaction.
            2 => {
                let follower = scene.follow();
                scene.run(&history).await;
                scene.drained(&follower, "live").await;
                follower.stop(PATIENCE).await.unwrap();
                assert_mapped(&scene).await;
            }
            _ => {
                scene.run(&history).await;
                let status = caught_up(&scene).await;
                eprintln!("seed {seed}: {} set by set, {} replayed", status.set_based, status.replayed);
                set_based += status.set_based;
            }
        }
    }
    assert!(set_based > 0, "no batch was written set by set");
}

#[tokio::test]
async fn a_row_that_green_lost_is_an_error_and_one_outside_the_condition_is_none() {
    let scene = set("mapped_lost", 15, 18).await;
    scene.run("insert into item values (1, 'a', 'b', true), (2, 'nobody', 'b', true)").await;
    caught_up(&scene).await;
    scene.run("update item set body = 'c' where id = 2; delete from item where id = 2").await;
    caught_up(&scene).await;
    scene.green.batch_execute("delete from active").await.unwrap();
    scene.run("update item set body = 'd'").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert_eq!(error.what, "0 rows on green instead of one for an update of public.active (1)");
}
