//! Eight writers whose commits interleave: each transaction is on green, once.

use crate::stream::{PATIENCE, Scene};
use crate::support::Pair;
use migrate::stream::progress;
use std::time::Duration;

const WRITERS: u32 = 8;

const DDL: &str = "create table public.tally (writer int, n int, v text, primary key (writer, n));
    create table public.shared (id int primary key, total bigint not null);
    insert into public.shared select n, 0 from generate_series(0, 4) n;
    create table public.whole (writer int, n int); alter table public.whole replica identity full";
const TABLES: [(&str, &[&str]); 3] = [("tally", &["writer", "n"]), ("shared", &["id"]), ("whole", &[])];

/// Each writer commits this many transactions, while followers come and go.
pub async fn none_is_missing(blue: u32, green: u32, transactions: u32) {
    let scene = Scene::set(Pair::of_majors("writers", blue, green).await, DDL, &TABLES).await;
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(scene.pair.blue_url(), writer, transactions))).collect();
    let mut lives = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let follower = scene.follow();
        tokio::time::sleep(Duration::from_millis(120 + 60 * (lives % 4))).await;
        assert!(follower.failure().is_none(), "the follower failed: {:?}", follower.status().borrow().failed);
        lives += 1;
        drop(follower);
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let follower = scene.follow();
    scene.drained(&follower, "end").await;
    follower.stop(PATIENCE).await.unwrap();
    scene.assert_same().await;
    let committed = u64::from(WRITERS * transactions);
    let sql = "select count(*)::bigint, (select sum(total)::bigint from public.shared), (select count(*) from public.whole) from public.tally";
    let row = scene.green.query_one(sql, &[]).await.unwrap();
    let counted: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counted.map(i64::unsigned_abs), [committed; 3]);
    let applied = progress::read(&scene.green, &scene.spec.slot).await.unwrap().unwrap();
    // The marker's transaction is one more.
    assert_eq!(applied.transactions, committed + 1);
    println!(
        "proof: {blue} to {green}, none missing | {WRITERS} writers, {committed} transactions | {lives} followers dropped"
    );
}

async fn write(url: String, writer: u32, transactions: u32) {
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for n in 0..transactions {
        // Who began first does not commit first.
        let pause_ms = (writer * 7 + n * 13) % 6;
        let sql = format!(
            "begin; insert into public.tally values ({writer}, {n}, 'begun'); select pg_sleep({pause_ms} / 1000.0);
            savepoint s; update public.tally set v = 'undone' where writer = {writer}; rollback to s;
            insert into public.whole values ({writer}, {n}); update public.tally set v = 'done' where writer = {writer} and n = {n};
            update public.shared set total = total + 1 where id = {}; commit",
            (writer + n) % 5
        );
        client.batch_execute(&sql).await.unwrap();
    }
    drop(client);
    let _ = connection.await;
}
