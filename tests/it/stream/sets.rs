//! Backlogs: batches written set by set, and what they do when that cannot be.

use super::{PATIENCE, Scene};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::pg::name::TableName;
use migrate::stream::follow::{DirtyKey, FollowStatus, Follower};
use migrate::stream::progress;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;
use std::time::Duration;

/// More changes than this are folded, in batches of our own writing.
const MANY: u32 = 200;

/// Applies what blue has, and compares.
async fn caught_up(scene: &Scene) -> FollowStatus {
    let follower = scene.follow();
    let status = finished(scene, follower).await;
    scene.assert_same().await;
    status
}

async fn finished(scene: &Scene, follower: Follower) -> FollowStatus {
    // Green remembers the last marker, so each has to be another.
    scene.drained(&follower, &format!("{:016x}", rand::random::<u64>())).await;
    follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()))
}

/// Green's scans by index of a table, to see that sets find their rows by key.
async fn sequential_scans(scene: &Scene, table: &str) -> i64 {
    let sql = "select seq_tup_read from pg_stat_user_tables where relname = $1";
    scene.green.query_one(sql, &[&table]).await.unwrap().get(0)
}

const ITEMS: &str = "create table public.item (id int primary key, slot int unique, name text, long text);
    alter table public.item alter column long set storage external;
    create table public.pair (one text, two text, v int, primary key (one, two));
    create table public.always (id int generated always as identity primary key, x int, twice int generated always as (x * 2) stored)";
const ITEM_TABLES: [(&str, &[&str]); 3] = [("item", &["id"]), ("pair", &["one", "two"]), ("always", &["id"])];

/// Many rows, so that what follows is one batch with them and written set by set.
fn crowd(from: u32) -> String {
    let to = from + MANY;
    format!(
        "insert into item select n, n, 'row ' || n, repeat('x', 5000) from generate_series({from}, {to}) n;
        insert into pair select 'a' || n, 'b', n from generate_series({from}, {to}) n;
        insert into always (x) select n from generate_series({from}, {to}) n;"
    )
}

/// A scene whose rows are on green already.
async fn with_crowd(name: &str) -> Scene {
    let scene = Scene::set(Pair::fresh(name).await, ITEMS, &ITEM_TABLES).await;
    scene.run(&crowd(1)).await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    scene
}

#[tokio::test]
async fn a_backlog_is_written_set_by_set() {
    let scene = with_crowd("sets").await;
    let read_before = sequential_scans(&scene, "item").await;
    scene
        .run(
            "update item set name = name || '!'; update item set name = null where id % 3 = 0; delete from item where id % 7 = 0;
            update pair set v = v + 1; update pair set two = two || one where v % 2 = 0; delete from pair where v % 5 = 0;
            update always set x = x + 1; delete from always where x % 4 = 0;
            update item set long = 'short' where id % 10 = 0; update item set long = repeat('y', 9000) where id % 11 = 0",
        )
        .await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0, "{status:?}");
    assert_eq!(status.replayed, 0, "{status:?}");
    // The statistics come when the session of the follower ends.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let read = sequential_scans(&scene, "item").await - read_before;
    // Comparing reads the table once; a set that scanned would read it for every row.
    assert!(read < i64::from(10 * MANY), "{read} rows were read by scans");
}

#[tokio::test]
async fn values_that_need_care_in_copy_arrive() {
    let scene = Scene::set(Pair::fresh("care").await, ITEMS, &ITEM_TABLES).await;
    scene.run(&crowd(1000)).await;
    scene
        .run(r"insert into pair values (E'tab\there', E'new\nline', 1), (E'back\\slash', '\.', 2), ('\N', '', 3), (E'\r', 'é ', 4)")
        .await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    scene.run("update pair set v = v + 1").await;
    scene.run(r"update pair set one = one || E'\\' where v < 10").await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
}

#[tokio::test]
async fn changed_keys_and_rows_replaced_in_one_batch_are_folded() {
    let scene = with_crowd("keys").await;
    scene
        .run(
            "update pair set one = 'z' || one; update pair set one = 'y' || one where v % 2 = 0;
            begin; delete from pair where v < 50; insert into pair select 'zz' || n, 'new', n from generate_series(1, 49) n; commit;
            insert into pair values ('za1', 'b', 7); delete from pair where one = 'za1'; insert into pair values ('za1', 'b', 8);
            insert into pair values ('gone', '', 1); update pair set v = 2 where one = 'gone'; delete from pair where one = 'gone'",
        )
        .await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
}

#[tokio::test]
async fn a_replaced_row_begins_anew_in_columns_of_greens_own() {
    let scene = with_crowd("own").await;
    scene
        .green
        .batch_execute("alter table pair add column seen int default 0; update pair set seen = 1")
        .await
        .unwrap();
    scene
        .run("update pair set v = v + 1; delete from pair where one = 'a5'; insert into pair values ('a5', 'b', 5)")
        .await;
    let follower = scene.follow();
    let status = finished(&scene, follower).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    let seen = async |one: &str| -> i32 {
        scene.green.query_one("select seen from pair where one = $1", &[&one]).await.unwrap().get(0)
    };
    assert_eq!((seen("a4").await, seen("a5").await), (1, 0));
    // With a column of green's own, a row keeps it through a change of its key.
    scene.run("update pair set v = v + 1; update pair set one = 'other' where one = 'a4'").await;
    let follower = scene.follow();
    finished(&scene, follower).await;
    assert_eq!(seen("other").await, 1);
}

#[tokio::test]
async fn a_swap_under_a_unique_constraint_is_replayed_in_blues_order() {
    let scene = with_crowd("swap").await;
    scene.run(&crowd(1000)).await;
    scene
        .run("begin; update item set slot = -1 where id = 1; update item set slot = 1 where id = 2; update item set slot = 2 where id = 1; commit")
        .await;
    scene.run("update item set name = 'touched'").await;
    let status = caught_up(&scene).await;
    assert_eq!(status.replayed, 1, "{status:?}");
    // It goes on set by set later.
    scene.run("update item set name = 'again'").await;
    scene.run("update item set name = 'and again'").await;
    caught_up(&scene).await;
}

#[tokio::test]
async fn a_refusal_before_rows_are_streamed_into_another_table_is_replayed_too() {
    let scene = with_crowd("swap_first").await;
    scene
        .run(
            "begin; update item set slot = -1 where id = 1; update item set slot = 1 where id = 2; update item set slot = 2 where id = 1;
            insert into pair select 'b' || n, 'b', n from generate_series(1, 200) n; update always set x = x + 1; commit",
        )
        .await;
    let status = caught_up(&scene).await;
    assert_eq!(status.replayed, 1, "{status:?}");
}

#[tokio::test]
async fn a_key_changed_with_its_toast_value_not_sent_is_written_in_exact_order() {
    let scene = with_crowd("toast_key").await;
    scene
        .run("update item set name = 'n'; update item set id = -id; update item set name = 'm' where id < -5")
        .await;
    let status = caught_up(&scene).await;
    assert_eq!((status.set_based, status.replayed), (0, 0), "{status:?}");
}

#[tokio::test]
async fn a_truncate_in_the_middle_of_a_batch_keeps_its_place() {
    let scene = with_crowd("truncate").await;
    scene.run(&crowd(1000)).await;
    scene.run("update pair set v = 0; truncate pair; insert into pair values ('after', 'b', 1)").await;
    scene.run(&crowd(3000)).await;
    let status = caught_up(&scene).await;
    assert_eq!(status.replayed, 0, "{status:?}");
}

#[tokio::test]
async fn tables_without_a_key_take_inserts_by_sets_and_changes_one_by_one() {
    let ddl = "create table public.keyless (a int, b text); alter table public.keyless replica identity full";
    let scene = Scene::set(Pair::fresh("keyless").await, ddl, &[("keyless", &[])]).await;
    scene.run("insert into keyless select n % 10, 'x' from generate_series(1, 500) n").await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    scene.run("insert into keyless select n % 10, 'x' from generate_series(1, 200) n; update keyless set a = 11 where a = 1").await;
    let status = caught_up(&scene).await;
    assert_eq!(status.replayed, 0, "{status:?}");
}

#[tokio::test]
async fn a_trigger_that_fires_for_replicas_sees_every_change() {
    let scene = with_crowd("always").await;
    scene
        .green
        .batch_execute(
            "create table seen (v int);
            create function note() returns trigger language plpgsql as $$ begin insert into public.seen values (new.v); return new; end $$;
            create trigger note after update on pair for each row execute function note();
            alter table pair enable always trigger note",
        )
        .await
        .unwrap();
    for round in 1..=3 {
        scene.run(&format!("update pair set v = {round}")).await;
    }
    caught_up(&scene).await;
    let seen: i64 = scene.green.query_one("select count(*) from seen", &[]).await.unwrap().get(0);
    assert_eq!(seen, i64::from(3 * (MANY + 1)));
}

#[tokio::test]
async fn a_row_missing_in_a_set_has_a_name_and_may_be_exempt() {
    let scene = with_crowd("missing_in_set").await;
    scene.green.batch_execute("delete from item where id = 77").await.unwrap();
    scene.run("update item set name = 'changed'").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("public.item (77)"), "{error}");
    let changed: i64 =
        scene.green.query_one("select count(*) from item where name = 'changed'", &[]).await.unwrap().get(0);
    assert_eq!(changed, 0, "nothing of the batch may be on green");
    let follower = scene.follow();
    follower.exempt([DirtyKey { table: TableName::new("public", "item"), key: vec!["77".into()] }]);
    let status = finished(&scene, follower).await;
    assert_eq!((status.exempted, status.replayed), (1, 1), "{status:?}");
}

#[tokio::test]
async fn a_transaction_larger_than_a_batch_is_written_in_parts_and_seen_as_one() {
    let ddl = "create table public.big (id int primary key, v text)";
    let scene = Scene::set(Pair::fresh("parts").await, ddl, &[("big", &["id"])]).await;
    scene.run("insert into big select n, 'first' from generate_series(1, 1000) n").await;
    scene
        .run(
            "begin; update big set v = 'second'; insert into big select n, md5(n::text) from generate_series(1001, 90000) n;
            update big set v = v || '!' where id % 3 = 0; delete from big where id % 10 = 0; commit",
        )
        .await;
    // As a crash of ours, somewhere in the middle.
    let follower = scene.follow();
    tokio::time::sleep(Duration::from_millis(700)).await;
    drop(follower);
    let follower = scene.follow();
    let watching = scene.pair.green().await;
    let mut counts = std::collections::BTreeSet::new();
    let mut status = follower.status();
    while status.borrow_and_update().transactions < 2 && counts.len() < 4 {
        let count: i64 = watching.query_one("select count(*) from big", &[]).await.unwrap().get(0);
        counts.insert(count);
        tokio::time::sleep(Duration::from_millis(5)).await;
        if progress::read(&watching, "follow_slot").await.unwrap().unwrap().transactions >= 2 {
            break;
        }
    }
    assert!(counts.iter().all(|count| [0, 1000, 81000].contains(count)), "{counts:?}");
    let status = finished(&scene, follower).await;
    scene.assert_same().await;
    assert!(status.set_based > 1 && status.replayed == 0, "{status:?}");
}

/// Transactions of a few random changes each, over few keys, so that batches hold many changes of one key.
fn random_history(seed: u64, transactions: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sql = String::new();
    for number in 0..transactions {
        let _ = writeln!(sql, "begin;");
        for part in 0..random.random_range(1..6) {
            let slot = seed % 100 * 10_000 + number * 10 + part;
            let (id, other) = (random.random_range(1..40), random.random_range(1..40));
            let _ = match random.random_range(0..12) {
                0 | 1 => writeln!(
                    sql,
                    "insert into item values ({id}, {slot}, 'new', repeat('l', {})) on conflict do nothing;",
                    random.random_range(0..6000)
                ),
                2 => writeln!(sql, "delete from item where id = {id};"),
                3 => writeln!(
                    sql,
                    "update item set long = repeat('m', {}) where id = {id};",
                    random.random_range(0..6000)
                ),
                4 if seed % 2 == 1 => writeln!(
                    sql,
                    "update item set id = {other} where id = {id} and not exists (select from item where id = {other});"
                ),
                5 => writeln!(
                    sql,
                    "insert into pair values ('p{id}', 'q{other}', {number}) on conflict (one, two) do update set v = pair.v + 1;"
                ),
                6 => writeln!(sql, "delete from pair where one = 'p{id}';"),
                7 => writeln!(sql, "update pair set two = 'r' || two where one = 'p{id}';"),
                8 => writeln!(sql, "savepoint s; update item set name = 'undone'; rollback to s;"),
                9 => writeln!(
                    sql,
                    "insert into always (x) values ({id}); update always set x = {other} where x = {id};"
                ),
                _ => writeln!(sql, "update item set name = 'n{number}', slot = -{slot} where id = {id};"),
            };
        }
        let _ = writeln!(sql, "commit;");
    }
    sql
}

async fn random_histories(name: &str, blue: u32, green: u32) {
    let scene = Scene::set(Pair::of_majors(name, blue, green).await, ITEMS, &ITEM_TABLES).await;
    let mut set_based = 0;
    for round in 0..4u64 {
        let seed = 100 * u64::from(blue) + round;
        scene.run(&random_history(seed, 150)).await;
        if round == 1 {
            // Something interrupts it.
            let follower = scene.follow();
            tokio::time::sleep(Duration::from_millis(120)).await;
            drop(follower);
        }
        let status = caught_up(&scene).await;
        eprintln!("seed {seed}: {} set by set, {} replayed", status.set_based, status.replayed);
        set_based += status.set_based;
    }
    assert!(set_based > 0, "no batch was written set by set");
}

#[tokio::test]
async fn random_histories_of_few_keys_end_the_same_on_15_and_18() {
    random_histories("random_15_18", 15, 18).await;
}

#[tokio::test]
async fn random_histories_of_few_keys_end_the_same_on_18_and_15() {
    random_histories("random_18_15", 18, 15).await;
}

#[tokio::test]
async fn random_histories_of_few_keys_end_the_same_on_15_and_15() {
    random_histories("random_15_15", 15, 15).await;
}
