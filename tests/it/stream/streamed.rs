//! Large transactions, which blue sends while they still run: written on green meanwhile, and whole or not at all there.

use super::{Ear, PATIENCE, Scene};
use crate::support::Pair;
use migrate::event::Event;
use migrate::stream::follow::Follower;
use migrate::stream::progress;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const DDL: &str = "create table public.big (id int primary key, slot int unique, v text, pad text);
    alter table public.big alter column pad set storage external;
    create table public.small (id int primary key, v int);
    create table public.kept (id int primary key, v text);
    insert into big select n, n, 'old', repeat('o', 3000) from generate_series(1, 20) n;
    insert into kept select n, 'old' from generate_series(1, 300) n";
const TABLES: [(&str, &[&str]); 3] = [("big", &["id"]), ("small", &["id"]), ("kept", &["id"])];

/// Blue sends transactions of this size while they run; the rows of the DDL are on green.
async fn scene(name: &str, blue: u32, green: u32) -> Scene {
    let scene = Scene::set(Pair::of_majors(name, blue, green).await, DDL, &TABLES).await;
    let early =
        format!("alter database \"{}\" set logical_decoding_work_mem = '64kB'", scene.pair.blue_database());
    scene.run(&early).await;
    scene
}

/// Rows that are more than one part together.
fn large(from: u32) -> String {
    format!(
        "insert into big select n, n, 'v' || n, repeat(chr(97 + n % 26), 1 << 20) from generate_series({from}, {from} + 33) n;"
    )
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Waits until so many transactions are open on green, with something written.
async fn open_on_green(scene: &Scene, expected: i64) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name like '%: apply'
        and state = 'idle in transaction' and backend_xid is not null";
    let began = Instant::now();
    loop {
        let open: i64 = scene.green.query_one(sql, &[]).await.unwrap().get(0);
        if open == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{open} transactions are open on green, and not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count_on_green(scene: &Scene, condition: &str) -> i64 {
    let sql = format!("select count(*) from big where {condition}");
    scene.green.query_one(&sql, &[]).await.unwrap().get(0)
}

/// As [`Scene::assert_same`], without the values that are a megabyte each.
async fn assert_same(scene: &Scene) {
    for (table, columns) in [("big", "id, slot, v, md5(pad)"), ("small", "id, v"), ("kept", "id, v")] {
        let sql = format!("select row({columns})::text from {table} order by id");
        let rows =
            |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
        let blue = rows(scene.blue.query(&sql, &[]).await.unwrap());
        let green = rows(scene.green.query(&sql, &[]).await.unwrap());
        assert_eq!(blue, green, "{table} differs");
    }
}

async fn stop(follower: Follower) -> u64 {
    follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain())).transactions
}

#[tokio::test]
async fn a_transaction_is_written_while_it_runs_and_seen_when_it_commits() {
    let scene = scene("runs", 15, 15).await;
    let ear = Arc::new(Ear::default());
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    let writer = scene.pair.blue().await;
    run(&writer, "begin").await;
    run(&writer, &large(1000)).await;
    open_on_green(&scene, 1).await;
    // Others go on beside it, also after its rows; what it sees of them comes to green before what it does with that.
    scene.run("insert into small values (1, 1); update big set v = 'beside' where id = 1").await;
    scene.drained(&follower, "beside").await;
    assert_eq!(count_on_green(&scene, "v = 'beside'").await, 1);
    assert_eq!(count_on_green(&scene, "id >= 1000").await, 0);
    let changes = [
        // Large values that are not sent, keys that change, values that change places, an emptied table, a marker.
        "update big set v = 'once'; update big set v = v || ' more' where id % 2 = 0; update small set v = 2",
        "update big set id = -id where id in (2, 1003); delete from big where id in (3, 1004)",
        "update big set slot = -1 where id = 5; update big set slot = 5 where id = 6; update big set slot = 6 where id = 5",
        "truncate kept; insert into kept select n, 'new' from generate_series(1, 500) n",
        "select pg_logical_emit_message(true, 'migrate', 'inside')",
    ];
    for sql in changes {
        run(&writer, sql).await;
        scene.run("insert into small select max(id) + 1, 0 from small").await;
    }
    run(&writer, &large(2000)).await;
    scene.drained(&follower, "still running").await;
    assert_eq!(count_on_green(&scene, "v like 'once%' or id >= 1000").await, 0);
    assert!(!ear.has_warned(), "it was given up");
    run(&writer, "commit").await;
    follower.wait_for_marker("inside", PATIENCE).await.unwrap();
    assert_same(&scene).await;
    scene.run("update big set v = 'after' where id = 1").await;
    scene.drained(&follower, "after").await;
    assert_same(&scene).await;
    // Seven small ones, three markers, itself.
    assert_eq!(stop(follower).await, 7 + 3 + 1);
    assert!(!ear.has_warned(), "it was given up");
}

#[tokio::test]
async fn parts_of_it_that_are_rolled_back_leave_nothing() {
    let scene = scene("undone", 15, 18).await;
    let ear = Arc::new(Ear::default());
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    let writer = scene.pair.blue().await;
    run(
        &writer,
        "begin; insert into small values (-1, -1); savepoint a; update big set v = 'undone' where id = 1;",
    )
    .await;
    run(&writer, &large(1000)).await;
    scene.drained(&follower, "sent").await;
    open_on_green(&scene, 1).await;
    run(&writer, "rollback to a").await;
    // Its row is free again, before the transaction ends.
    scene.run("update big set v = 'beside' where id = 1").await;
    scene.drained(&follower, "free").await;
    let nested = "savepoint b; insert into small values (-2, 0); savepoint c; update big set v = 'c' where id < 9; release c;
        rollback to b; insert into small values (-3, 0); savepoint d; delete from big where id = 9; release d;
        do $$ begin
            for n in 1..600 loop
                begin
                    insert into small values (n, n);
                    update big set v = repeat('w', 200) || n where id = 10 + n % 10;
                    if n % 3 = 0 then raise exception 'no'; end if;
                exception when raise_exception then null;
                end;
            end loop;
        end $$;";
    run(&writer, nested).await;
    run(&writer, &large(3000)).await;
    run(&writer, "savepoint e; truncate kept; insert into kept values (1, 'undone')").await;
    run(&writer, &large(4000)).await;
    scene.drained(&follower, "sent again").await;
    run(&writer, "rollback to e; update kept set v = 'left'; commit").await;
    scene.drained(&follower, "committed").await;
    assert_same(&scene).await;
    open_on_green(&scene, 0).await;

    run(&writer, "begin; update big set v = 'never'").await;
    run(&writer, &large(5000)).await;
    scene.drained(&follower, "to be undone").await;
    open_on_green(&scene, 1).await;
    run(&writer, "rollback").await;
    scene.run("update big set v = 'ever' where id < 5").await;
    scene.drained(&follower, "undone").await;
    assert_same(&scene).await;
    open_on_green(&scene, 0).await;
    assert!(!ear.has_warned(), "it was given up");
    stop(follower).await;
}

#[tokio::test]
async fn one_that_is_cut_in_the_middle_comes_once() {
    let scene = scene("cut", 18, 18).await;
    let writer = scene.pair.blue().await;
    run(&writer, "begin; update big set v = 'cut'").await;
    run(&writer, &large(1000)).await;
    scene.run("insert into small values (1, 1)").await;
    // As a crash of ours.
    let ear = Arc::new(Ear::default());
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    open_on_green(&scene, 1).await;
    drop(follower);
    scene.run("insert into small values (2, 2)").await;
    // Told to stop.
    let follower = scene.follow();
    scene.drained(&follower, "x").await;
    open_on_green(&scene, 1).await;
    stop(follower).await;
    assert_eq!(count_on_green(&scene, "v = 'cut' or id >= 1000").await, 0);
    // Its session on green dies, and it goes on by itself.
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    // What it wrote before the position that is gone on from comes together with what it writes after.
    run(&writer, &large(1500)).await;
    scene.drained(&follower, "w").await;
    open_on_green(&scene, 1).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%: apply' and state = 'idle in transaction'";
    assert_eq!(scene.green.query(end, &[]).await.unwrap().len(), 1);
    run(&writer, &large(2000)).await;
    scene.drained(&follower, "y").await;
    open_on_green(&scene, 1).await;
    follower.durable(true).await.unwrap();
    run(&writer, "commit").await;
    scene.drained(&follower, "z").await;
    assert_same(&scene).await;
    stop(follower).await;
    assert!(!ear.has_warned(), "it was given up");
    let applied = progress::read(&scene.green, "follow_slot").await.unwrap().unwrap();
    assert_eq!((applied.transactions, applied.marker.as_deref()), (2 + 4 + 1, Some("z")));
}

#[tokio::test]
async fn when_green_makes_it_wait_it_is_written_after_its_commit() {
    let scene = scene("waits", 15, 18).await;
    let ear = Arc::new(Ear::default());
    let holder = scene.pair.green().await;
    run(&holder, "begin; select from big where id = 7 for update").await;
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    let writer = scene.pair.blue().await;
    run(&writer, "begin; update big set v = 'waits'").await;
    run(&writer, &large(1000)).await;
    scene.run("insert into small values (1, 1)").await;
    let began = Instant::now();
    while !ear.has_warned() {
        assert!(began.elapsed() < PATIENCE, "it waits for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.drained(&follower, "beside").await;
    run(&holder, "rollback").await;
    run(&writer, "commit").await;
    scene.drained(&follower, "after").await;
    assert_same(&scene).await;
    stop(follower).await;
}

#[tokio::test]
async fn a_shape_that_only_a_transaction_saw_that_was_rolled_back_is_none() {
    let scene = scene("shapes", 15, 18).await;
    let writer = scene.pair.blue().await;
    let follower = scene.follow();
    // The first that is heard of the table, and green could take it.
    run(
        &writer,
        "begin; alter table small drop column v; insert into small select n from generate_series(1, 5000) n",
    )
    .await;
    scene.drained(&follower, "sent").await;
    run(&writer, "rollback").await;
    scene.run("insert into small select n, n from generate_series(1, 300) n").await;
    scene.drained(&follower, "x").await;
    assert_same(&scene).await;
    stop(follower).await;
}

/// Transactions of one writer, on rows of its own: many rows or few, with parts that are rolled back.
fn random_transactions(random: &mut StdRng, writer: u32) -> Vec<String> {
    let mut all = Vec::new();
    let mut next = writer * 1_000_000;
    for _ in 0..4 {
        let mut sql = String::from("begin;\n");
        let mut open = 0;
        for _ in 0..random.random_range(6..18) {
            let own = format!("id / 1000000 = {writer}");
            let _ = match random.random_range(0..12) {
                0 | 1 => {
                    let (from, rows) = (next, random.random_range(20..40));
                    next += rows;
                    writeln!(
                        sql,
                        "insert into big select n, n, 'new', repeat(chr(97 + n % 26), 1 << 20) from generate_series({from}, {}) n;",
                        next - 1
                    )
                }
                2 | 3 => writeln!(sql, "update big set v = v || '{open}' where {own};"),
                4 => writeln!(sql, "delete from big where {own} and id % 7 = {};", random.random_range(0..7)),
                5 => writeln!(sql, "update big set slot = -slot where {own} and id % 3 = 0;"),
                6 => writeln!(
                    sql,
                    "do $$ begin for n in 1..40 loop begin update big set v = v || n where id = {next} - n % 5; insert into small values ({next} * 10 + n, n); if n % 4 = 0 then raise exception 'no'; end if; exception when others then null; end; end loop; end $$;"
                ),
                7 if open > 0 => {
                    open -= 1;
                    writeln!(sql, "release s{};", open + 1)
                }
                8 | 9 if open > 0 => writeln!(sql, "rollback to s{open};"),
                _ => {
                    open += 1;
                    writeln!(sql, "savepoint s{open};")
                }
            };
        }
        sql += if random.random_ratio(1, 5) { "rollback" } else { "commit" };
        all.push(sql);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transactions_beside_each_other_end_the_same() {
    let scene = scene("beside", 18, 15).await;
    let seed = crate::crashes::points::seed();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut writers = Vec::new();
    for writer in 1..=3 {
        let (client, transactions) = (scene.pair.blue().await, random_transactions(&mut random, writer));
        writers.push(tokio::spawn(async move {
            for transaction in transactions {
                // Statement by statement, so that the writers take turns.
                for statement in transaction.split(";\n") {
                    run(&client, statement).await;
                }
            }
        }));
    }
    while writers.iter().any(|writer| !writer.is_finished()) {
        let follower = scene.follow();
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3000))).await;
        assert_eq!(follower.status().borrow().failed, None);
        drop(follower);
    }
    for writer in writers {
        writer.await.expect("the writer ends well");
    }
    let follower = scene.follow();
    scene.drained(&follower, "end").await;
    assert_same(&scene).await;
    stop(follower).await;
}

impl Ear {
    fn has_warned(&self) -> bool {
        let given_up =
            |event: &Event| matches!(event, Event::Warning { text } if text.contains("after their commit"));
        self.0.lock().unwrap().iter().any(given_up)
    }
}
