//! Following blue on green: every kind of change, exactly once, through every kind of interruption.

mod at_once;
mod joined;
mod mapped;
mod reshaped;
mod scene;
mod sets;
mod streamed;
mod subscription;

pub(crate) use scene::{PATIENCE, Scene, followed};

use crate::support::Pair;
use migrate::error::Kind;
use migrate::event::{Event, Listener};
use migrate::pg::lsn::Lsn;
use migrate::pg::name::TableName;
use migrate::pg::replication::ReplicationConn;
use migrate::stream::follow::Follower;
use migrate::stream::progress;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const EVERY_KIND: &str = r"
    create type public.mood as enum ('sad', 'ok');
    create table public.plain (id bigint primary key, a text, b bytea, c jsonb, d numeric, e timestamptz, f boolean, g public.mood,
        h text[], i char(5), j float8, k interval, l point);
    create table public.always (id int generated always as identity primary key, x int, twice int generated always as (x * 2) stored);
    create table public.pair (one text, two int, v text, primary key (one, two));
    create table public.keyless (a int, b char(4), c boolean, d json, e text);
    alter table public.keyless replica identity full;
    create table public.full_keyed (id int primary key, v text);
    alter table public.full_keyed replica identity full;
    create table public.by_index (u int not null, v text);
    create unique index by_index_u on public.by_index (u);
    alter table public.by_index replica identity using index by_index_u;
    create table public.parent (id serial primary key);
    create table public.child (id int primary key, parent int references public.parent);
    alter table public.plain alter column a set storage external;
";

const EVERY_TABLE: [(&str, &[&str]); 8] = [
    ("plain", &["id"]),
    ("always", &["id"]),
    ("pair", &["one", "two"]),
    ("keyless", &[]),
    ("full_keyed", &["id"]),
    ("by_index", &["u"]),
    ("parent", &["id"]),
    ("child", &["id"]),
];

async fn every_kind_of_change(blue: u32, green: u32) {
    let pair = Pair::of_majors("every_kind", blue, green).await;
    let scene = Scene::set(pair, EVERY_KIND, &EVERY_TABLE).await;
    let follower = scene.follow();
    scene
        .run(
            r#"
        insert into plain values (1, repeat('x', 9000), '\x00ff', '{"a": [1, null]}', 1.500, '2024-02-29 12:00:00.123456+05', true, 'ok',
            '{"a b",NULL}', 'ab', 0.1, '1 mon 2 days', '(1,2)'), (2, null, null, null, 'NaN', 'infinity', false, 'sad', '{}', '', 'Infinity', '-1s', null);
        insert into plain (id, a) select n, 'row ' || n from generate_series(10, 300) n;
        insert into always (x) values (1), (2), (3);
        insert into pair values ('it''s', 1, 'é'), ('b', 2, E'tab\tnew\nline');
        insert into keyless values (1, 'ab', true, '{"x":1}', null), (1, 'ab', true, '{"x":1}', null), (2, null, null, null, 'e');
        insert into full_keyed values (1, 'a'), (2, 'b');
        insert into by_index values (1, 'a'), (2, 'b');
        insert into parent default values; insert into parent default values;
        insert into child values (1, 1), (2, 2);
    "#,
        )
        .await;
    scene.drained(&follower, "inserted").await;
    scene.assert_same().await;
    scene
        .run(
            r#"
        begin; update plain set d = 7 where id = 1; update plain set id = 100000 + id where id > 290; update plain set a = null where id = 2; commit;
        update plain set id = 3 where id = 1;
        update always set x = x + 10; delete from always where x = 12;
        update pair set two = two + 10, one = upper(one); update pair set v = 'only v' where two = 12;
        begin; update keyless set b = 'cd' where ctid = (select min(ctid) from keyless where a = 1); update keyless set a = 9 where a = 2; commit;
        delete from keyless where b = 'cd';
        update full_keyed set id = id + 10; update full_keyed set v = null where id = 11; delete from full_keyed where id = 12;
        update by_index set u = 5 where u = 1; update by_index set v = 'z' where u = 2;
        delete from plain where id between 20 and 50;
        begin; insert into plain (id) values (-1); savepoint s; insert into plain (id) values (-2); rollback to s; insert into plain (id) values (-3); commit;
        begin; insert into plain (id) values (-9); rollback;
    "#,
        )
        .await;
    scene.drained(&follower, "updated").await;
    scene.assert_same().await;
    scene.run("insert into by_index values (77, 'x'); truncate parent, child restart identity; truncate only pair; insert into parent default values").await;
    scene.drained(&follower, "truncated").await;
    scene.assert_same().await;
    let ids: i64 = scene.green.query_one("select count(*) from parent", &[]).await.unwrap().get(0);
    assert_eq!(ids, 1);
    scene.run("insert into child values (1, 1); truncate parent cascade").await;
    scene.drained(&follower, "cascaded").await;
    scene.assert_same().await;
    let status = follower.stop(PATIENCE).await.unwrap();
    assert_eq!(status.marker.as_deref(), Some("cascaded"));
    assert_eq!(status.durable, status.applied);
}

#[tokio::test]
async fn every_kind_of_change_arrives() {
    every_kind_of_change(15, 18).await;
}

#[tokio::test]
async fn every_kind_of_change_arrives_the_other_way_round() {
    every_kind_of_change(18, 15).await;
}

const BANK: &str = "create table public.account (id int primary key, balance int not null);
    insert into public.account select n, 0 from generate_series(1, 20) n;
    create table public.entry (id bigint primary key, account int, amount int)";
const BANK_TABLES: [(&str, &[&str]); 2] = [("account", &["id"]), ("entry", &["id"])];

/// Writes transfers on blue until told to stop; gives how many transactions were committed.
async fn transfers(url: String, stop: Arc<std::sync::atomic::AtomicBool>) -> u64 {
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut count = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let (account, amount) = (count % 20 + 1, count % 7);
        client
            .batch_execute(&format!(
                "begin; update account set balance = balance + {amount} where id = {account}; insert into entry values ({count}, {account}, {amount}); commit"
            ))
            .await
            .unwrap();
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interruptions_of_every_kind_apply_each_transaction_once() {
    let scene = Scene::set(Pair::fresh("interrupted").await, BANK, &BANK_TABLES).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = tokio::spawn(transfers(scene.pair.blue_url(), Arc::clone(&stop)));
    for round in 0..12u64 {
        let follower = scene.follow();
        let pause = Duration::from_millis(60 + 47 * (round % 5));
        tokio::time::sleep(pause).await;
        match round % 4 {
            // As a crash of ours.
            0 => drop(follower),
            1 => {
                follower.durable(true).await.unwrap();
                follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
            }
            // Connections die under it, and it goes on by itself.
            2 => {
                scene.green.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'migrate: apply'", &[]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(700)).await;
                drop(follower);
            }
            _ => {
                scene.blue.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'migrate: follow'", &[]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(700)).await;
                drop(follower);
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let committed = writer.await.unwrap();
    let follower = scene.follow();
    scene.drained(&follower, "end").await;
    follower.stop(PATIENCE).await.unwrap();
    scene.assert_same().await;
    let applied = progress::read(&scene.green, "follow_slot").await.unwrap().unwrap();
    // The marker's transaction is one more.
    assert_eq!(applied.transactions, committed + 1);
    assert!(committed > 200, "only {committed} transactions were written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_green_loses_nothing_though_its_commits_are_asynchronous() {
    let pair = Pair::of_own_servers("green_crash", 15, 18).await;
    let mut scene = Scene::set(pair, BANK, &BANK_TABLES).await;
    // So that a crash takes seconds of commits with it.
    for sql in [
        "alter system set wal_writer_delay = '10s'",
        "alter system set wal_writer_flush_after = '1GB'",
        "select pg_reload_conf()",
    ] {
        scene.green.batch_execute(sql).await.unwrap();
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = tokio::spawn(transfers(scene.pair.blue_url(), Arc::clone(&stop)));
    let follower = scene.follow();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        scene.pair.kill_green();
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.pair.restart_green().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let committed = writer.await.unwrap();
    scene.green = scene.pair.green().await;
    follower.durable(true).await.unwrap();
    scene.drained(&follower, "end").await;
    scene.assert_same().await;
    let applied = progress::read(&scene.green, "follow_slot").await.unwrap().unwrap();
    assert_eq!(applied.transactions, committed + 1);
}

#[tokio::test]
async fn a_slot_that_another_session_still_reads_is_waited_for() {
    let scene = Scene::set(Pair::fresh("in_use").await, BANK, &BANK_TABLES).await;
    // As the session of a follower that died, which blue has not noticed yet.
    let conn = ReplicationConn::connect(&scene.spec.blue, "stale").await.unwrap();
    let publications = [scene.spec.publication.clone()];
    let stale = conn.start(&scene.spec.slot, Lsn(0), &publications, 150_000).await.unwrap();
    let follower = scene.follow();
    scene.run("insert into entry values (1, 1, 1)").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(follower.status().borrow().failed, None);
    // One that is told to stop before it got so far has not failed either.
    let stopped = scene.follow().stop(PATIENCE).await;
    assert!(stopped.is_ok(), "{stopped:?}");
    stale.finish().await.unwrap();
    scene.drained(&follower, "end").await;
    scene.assert_same().await;
}

#[tokio::test]
async fn an_idle_slot_holds_no_wal_and_feedback_never_passes_progress() {
    let scene = Scene::set(Pair::fresh("idle").await, BANK, &BANK_TABLES).await;
    scene.run("create table public.unpublished (a text)").await;
    let follower = scene.follow();
    scene.drained(&follower, "start").await;
    scene.run("insert into unpublished select repeat('x', 1000) from generate_series(1, 2000)").await;
    let target: String = scene.blue.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let began = Instant::now();
    loop {
        let confirmed = scene.confirmed().await;
        let progress = progress::read(&scene.green, "follow_slot").await.unwrap().unwrap();
        let confirmed: migrate::pg::lsn::Lsn = confirmed.parse().unwrap();
        assert!(confirmed <= progress.position, "blue was told {confirmed}, green has {}", progress.position);
        if confirmed >= target.parse().unwrap() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the slot stays at {confirmed}, blue is at {target}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    follower.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn nothing_is_confirmed_that_green_did_not_flush() {
    let scene = Scene::set(Pair::fresh("unflushed").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    scene.drained(&follower, "start").await;
    let mut status = follower.status();
    let began = Instant::now();
    let mut behind = 0;
    while began.elapsed() < Duration::from_secs(3) {
        scene.run("update account set balance = balance + 1 where id = 1").await;
        let (durable, applied) = {
            let now = status.borrow_and_update();
            (now.durable, now.applied)
        };
        assert!(durable <= applied);
        behind += u32::from(durable < applied);
        let confirmed: migrate::pg::lsn::Lsn = scene.confirmed().await.parse().unwrap();
        assert!(confirmed <= status.borrow().durable.max(durable), "blue was told more than is durable");
    }
    // Otherwise the test looked at nothing.
    assert!(behind > 0, "commits were durable at once");
    follower.durable(true).await.unwrap();
    scene.drained(&follower, "end").await;
}

#[tokio::test]
async fn dirty_keys_are_the_last_distinct_ones() {
    let scene = Scene::set(Pair::fresh("dirty").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    scene.run("insert into entry select n, 1, 1 from generate_series(1, 50) n").await;
    scene.run("update account set balance = 1 where id in (3, 4)").await;
    scene.run("update entry set id = 1000 where id = 7").await;
    scene.run("delete from entry where id = 8").await;
    scene.drained(&follower, "end").await;
    let keys: Vec<String> = follower
        .dirty_keys()
        .iter()
        .map(|key| format!("{} {}", key.table.name.as_str(), key.key.join(",")))
        .collect();
    assert_eq!(keys.len(), 10);
    assert_eq!(keys[5..], ["account 3", "account 4", "entry 7", "entry 1000", "entry 8"]);
    assert_eq!(keys[0], "entry 46");
}

#[tokio::test]
async fn ddl_on_blue_stops_the_stream_and_names_the_table() {
    let scene = Scene::set(Pair::fresh("ddl").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    scene.run("insert into entry values (1, 1, 1)").await;
    scene.drained(&follower, "before").await;
    scene.run("create index on entry (account); analyze entry; insert into entry values (2, 1, 1)").await;
    scene.drained(&follower, "index").await;
    scene.run("alter table entry add column note text; insert into entry values (3, 1, 1, 'x')").await;
    let error = tokio::time::timeout(PATIENCE, follower.wait_failed()).await.unwrap();
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("public.entry"), "{error}");
    let rows: i64 = scene.green.query_one("select count(*) from entry", &[]).await.unwrap().get(0);
    assert_eq!(rows, 2, "nothing of the transaction may be on green");
}

#[tokio::test]
async fn a_table_outside_of_the_plan_stops_the_stream() {
    let scene = Scene::set(Pair::fresh("unplanned").await, BANK, &BANK_TABLES).await;
    scene.run("create table public.extra (id int primary key); alter publication follow_pub add table extra; insert into extra values (1)").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("public.extra"), "{error}");
}

#[tokio::test]
async fn a_lost_lease_stops_the_stream_before_it_writes() {
    let scene = Scene::set(Pair::fresh("lease").await, BANK, &BANK_TABLES).await;
    scene.green.batch_execute("update migrate.lease set epoch = 8").await.unwrap();
    scene.run("insert into entry values (1, 1, 1)").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Lease, "{error}");
    let rows: i64 = scene.green.query_one("select count(*) from entry", &[]).await.unwrap().get(0);
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_green_that_went_back_in_time_is_refused() {
    let scene = Scene::set(Pair::fresh("restored").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    scene.run("insert into entry values (1, 1, 1)").await;
    scene.drained(&follower, "x").await;
    follower.stop(PATIENCE).await.unwrap();
    scene.green.batch_execute("update migrate.progress set commit_lsn = commit_lsn - 1000").await.unwrap();
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("restored"), "{error}");
    scene.green.batch_execute("delete from migrate.progress").await.unwrap();
    let error = scene.failure().await;
    assert!(error.what.contains("no progress"), "{error}");
}

#[tokio::test]
async fn a_row_that_is_missing_on_green_stops_the_stream_unless_exempt() {
    let scene = Scene::set(Pair::fresh("missing").await, BANK, &BANK_TABLES).await;
    scene.green.batch_execute("delete from account where id = 5").await.unwrap();
    scene.run("update account set balance = 1 where id = 5").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("public.account (5)"), "{error}");
    let follower = scene.follow();
    follower.exempt([migrate::stream::follow::DirtyKey {
        table: TableName::new("public", "account"),
        key: vec!["5".into()],
    }]);
    scene.drained(&follower, "x").await;
    assert_eq!(follower.stop(PATIENCE).await.unwrap().exempted, 1);
}

#[tokio::test]
async fn a_slot_that_holds_too_much_is_dropped_so_that_blue_survives() {
    let mut scene = Scene::set(Pair::fresh("retained").await, BANK, &BANK_TABLES).await;
    scene.spec.retained_wal_max_bytes = 8 << 20;
    // Green is stuck behind a lock, so the slot cannot move.
    let blocker = scene.pair.green().await;
    blocker.batch_execute("begin; lock table entry").await.unwrap();
    let follower = scene.follow();
    scene.run("insert into entry values (1, 1, 1)").await;
    scene
        .run("create table public.filler as select repeat(md5(n::text), 30) from generate_series(1, 20000) n")
        .await;
    let error = tokio::time::timeout(PATIENCE, follower.wait_failed()).await.unwrap();
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert!(error.what.contains("over the limit"), "{error}");
    let left: i64 =
        scene.blue.query_one("select count(*) from pg_replication_slots", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[derive(Default)]
struct Ear(Mutex<Vec<Event>>);

impl Listener for Ear {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn the_lag_is_told_and_becomes_nothing() {
    let scene = Scene::set(Pair::fresh("lag").await, BANK, &BANK_TABLES).await;
    let ear = Arc::new(Ear::default());
    let follower = Follower::start(scene.spec.clone(), ear.clone());
    scene.run("insert into entry select n, 1, 1 from generate_series(1, 1000) n").await;
    scene.drained(&follower, "x").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let told = ear.0.lock().unwrap().clone();
    let lags: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::Lag { bytes, seconds, .. } => Some((*bytes, *seconds)),
            _ => None,
        })
        .collect();
    assert!((2..=6).contains(&lags.len()), "{lags:?}");
    let (bytes, seconds) = *lags.last().unwrap();
    assert!(bytes < 1 << 20 && seconds == 0.0, "{lags:?}");
    let status = follower.stop(PATIENCE).await.unwrap();
    assert_eq!((status.rows, status.transactions), (1000, 2));
}

/// Not a test of right or wrong: how fast a backlog is applied. `cargo test --test it -- --ignored backlog --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_backlog_is_applied_at_this_speed() {
    let ddl = "create table public.accounts (aid int primary key, bid int, abalance int, filler char(84));
        create table public.tellers (tid int primary key, bid int, tbalance int, filler char(84));
        create table public.branches (bid int primary key, bbalance int, filler char(88));
        create table public.history (hid bigserial primary key, tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
        insert into public.accounts select n, 1, 0, '' from generate_series(1, 100000) n;
        insert into public.tellers select n, 1, 0, '' from generate_series(1, 10) n;
        insert into public.branches values (1, 0, '')";
    let tables: [(&str, &[&str]); 4] =
        [("accounts", &["aid"]), ("tellers", &["tid"]), ("branches", &["bid"]), ("history", &["hid"])];
    let scene = Scene::set(Pair::fresh("speed").await, ddl, &tables).await;
    scene
        .run(
            "create procedure public.tpcb(count int) language plpgsql as $$ begin for n in 1..count loop
            update accounts set abalance = abalance + 1 where aid = 1 + (n * 7919) % 100000;
            update tellers set tbalance = tbalance + 1 where tid = 1 + n % 10;
            update branches set bbalance = bbalance + 1 where bid = 1;
            insert into history (tid, bid, aid, delta, mtime) values (1, 1, 1, 1, now());
            commit; end loop; end $$",
        )
        .await;
    scene.run("set synchronous_commit = off").await;
    scene.run("call public.tpcb(20000)").await;
    measure(&scene, "small transactions: 20 000 of 4 rows", 80_000.0).await;
    scene
        .run("insert into history (tid, bid, aid, delta, mtime) select 1, 1, 1, 1, now() from generate_series(1, 200000)")
        .await;
    measure(&scene, "one transaction of 200 000 inserts", 200_000.0).await;
    scene.run("update accounts set abalance = abalance + 1").await;
    measure(&scene, "one transaction of 100 000 updates", 100_000.0).await;
}

async fn measure(scene: &Scene, what: &str, rows: f64) {
    let began = Instant::now();
    let follower = scene.follow();
    scene.drained(&follower, what).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} rows/s", rows / seconds);
    follower.stop(PATIENCE).await.unwrap();
}
