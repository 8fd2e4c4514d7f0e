//! A copy that is cut and goes on, under writers: tables of different moments become one database again.

use super::stage::{ATTEMPT, EPOCH, Notebook, Stage, deaf, in_pieces};
use migrate::copy::{empty, ledger, rows};
use migrate::event::{Deaf, Event};
use migrate::pg::name::Ident;
use migrate::pg::replication::ReplicationConn;
use migrate::stream::follow::{FollowSpec, FollowTable, Follower};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// Why a table cut by blocks has one snapshot for all its pieces.
#[tokio::test]
async fn blocks_of_one_table_under_two_snapshots_lose_a_row() {
    let stage = Stage::set("copy_two_snapshots").await;
    stage
        .blue
        .batch_execute(
            "create table public.t (id int primary key, body text);
             insert into public.t select n, repeat('x', 1000) from generate_series(1, 1000) as n;
             delete from public.t where id <= 100",
        )
        .await
        .unwrap();
    stage.blue.batch_execute("vacuum public.t").await.unwrap();
    let piece = |blocks: &str| format!("select count(*) from public.t where ctid {blocks} '(70,0)'");
    let lower = stage.count(&stage.blue, &piece("<")).await;
    // New versions of upper rows find room in lower blocks.
    let update = "update public.t set body = repeat('y', 1000) where id between 800 and 850";
    stage.blue.batch_execute(update).await.unwrap();
    let upper = stage.count(&stage.blue, &piece(">=")).await;
    assert!(lower + upper < 900, "{lower} + {upper} of 900 rows");
}

const TABLES: &str = "
    create table public.big (id bigint primary key, filler text, touched int not null default 0);
    alter table public.big set (fillfactor = 70);
    insert into public.big select n, repeat('x', 300) from generate_series(1, 6000) as n;
    create table public.parent (id bigint primary key, name text unique);
    create table public.child (id bigint generated always as identity primary key, parent bigint references public.parent (id), note text);
    insert into public.parent select n, 'p' || n from generate_series(1, 1500) as n;
    insert into public.child (parent, note) select n % 1500 + 1, repeat('n', 200) from generate_series(1, 4000) as n;
    create table public.emptied (id bigint primary key, x text);
    insert into public.emptied select n, repeat('e', 500) from generate_series(1, 2000) as n;
    create table public.keyless (a int, b text); alter table public.keyless replica identity full;
    insert into public.keyless select n % 50, 'k' from generate_series(1, 500) as n;
    create table public.last (id int primary key); insert into public.last select generate_series(1, 3000)";

/// Transactions that move rows between blocks, change keys, empty tables, and refer to rows of other tables.
async fn write(blue: Client, stop: Arc<AtomicBool>, seed: u64) -> u64 {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut committed = 0;
    // Keys of its own, so that two writers never wait for each other crosswise.
    let mut fresh = 1_000_000 * (seed as i64 % 1000 + 1);
    while !stop.load(Ordering::Relaxed) {
        let n: u32 = dice.random_range(1..6000);
        fresh += 1;
        let sql = match dice.random_range(0..40) {
            0..12 => format!(
                "update public.big set touched = touched + 1, filler = repeat('{}', {}) where id = {n}",
                n % 7,
                250 + n % 120
            ),
            12..16 => format!("update public.big set id = {fresh} where id = {n}"),
            16..20 => format!(
                "delete from public.big where id = {n}; insert into public.big values ({fresh}, 'new')"
            ),
            20..26 => format!(
                "insert into public.parent values ({fresh}, 'p{fresh}'); insert into public.child (parent, note) values ({fresh}, 'c')"
            ),
            26..30 => format!("update public.child set parent = {} where id = {n}", n % 1500 + 1),
            30..33 => format!(
                "delete from public.keyless where ctid = (select min(ctid) from public.keyless where a = {}); insert into public.keyless values ({}, 'w')",
                n % 50,
                n % 50
            ),
            33..37 => format!(
                "insert into public.emptied values ({fresh}, 'f'); update public.emptied set x = 'u' where id = {n}"
            ),
            37 => "truncate public.emptied".to_owned(),
            38 => format!(
                "begin; savepoint s; update public.big set touched = -1 where id = {n}; rollback to s; insert into public.last values ({}) on conflict do nothing; commit",
                n + 3000
            ),
            _ => format!("delete from public.last where id = {n}"),
        };
        match blue.batch_execute(&sql).await {
            Ok(()) => committed += 1,
            Err(error) if error.code().is_some_and(|code| code.code() == "40P01") => {}
            Err(error) => panic!("{sql}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(u64::from(dice.next_u32() % 4))).await;
    }
    committed
}

async fn follow_spec(stage: &Stage) -> FollowSpec {
    let tables = stage.tables().await.into_iter().map(|table| FollowTable {
        key: match table.blue.name.as_str() {
            "keyless" => Vec::new(),
            _ => vec![Ident::new("id")],
        },
        blue: table.blue,
        green: table.green,
        mapping: None,
    });
    FollowSpec {
        blue: stage.blue_info.clone(),
        green: stage.green_info.clone(),
        slot: "copy_slot".into(),
        publication: "copy_pub".into(),
        attempt: ATTEMPT,
        epoch: EPOCH,
        tables: tables.collect(),
        dirty_keys: 10,
        retained_wal_max_bytes: 1 << 30,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_cut_again_and_again_under_writers_becomes_blue() {
    let seed = std::env::var("MIGRATE_TEST_SEED").map_or(20_261_122, |seed| seed.parse().unwrap());
    let stage = Stage::set("copy_resumed").await;
    stage.blue.batch_execute(TABLES).await.unwrap();
    stage.blue.batch_execute("create publication copy_pub for all tables").await.unwrap();
    stage.clone_schema().await.unwrap();
    stage.defer().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..3 {
        writers.push(tokio::spawn(write(stage.pair.blue().await, stop.clone(), seed + writer)));
    }
    let mut conn = ReplicationConn::connect(&stage.blue_info, "slot").await.unwrap();
    let slot = conn.create_slot("copy_slot", PATIENCE).await.unwrap();
    let begin = "insert into migrate.progress (slot, commit_lsn) values ('copy_slot', $1::text::pg_lsn)";
    stage.green.execute(begin, &[&slot.consistent_point.to_string()]).await.unwrap();
    // As the step does: a commit in the log may not be visible yet.
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut dice = StdRng::seed_from_u64(seed);
    let mut cuts = 0;
    loop {
        let spec = in_pieces(stage.spec().await, "big");
        let allowed = Duration::from_millis(dice.random_range(20..150) + 30 * cuts);
        let Ok(copied) = tokio::time::timeout(allowed, rows::copy(spec, deaf())).await else {
            cuts += 1;
            continue;
        };
        assert_eq!(copied.unwrap().tables, 6);
        break;
    }
    let moments = stage.count(&stage.green, "select count(distinct xids) from migrate.copy_table").await;
    println!("seed {seed}: cut {cuts} times, {moments} moments");
    assert!(cuts > 1 && moments > 2, "a copy that was never cut proves nothing");
    stage.rebuild_unproved().await.unwrap();

    let follower = Follower::start(follow_spec(&stage).await, Arc::new(Deaf));
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let mut committed = 0;
    for writer in writers {
        committed += writer.await.unwrap();
    }
    assert!(committed > 300, "{committed}");
    let mark = "select pg_logical_emit_message(true, 'migrate', 'done')";
    stage.blue.batch_execute(mark).await.unwrap();
    follower
        .wait_for_marker("done", PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("seed {seed}: {:?}", error.chain()));
    assert_eq!(stage.digests(&stage.blue).await, stage.digests(&stage.green).await, "seed {seed}");
    stage.rebuild().await.unwrap_or_else(|error| panic!("seed {seed}: {:?}", error.chain()));
    let proved = "select count(*) from pg_constraint where contype = 'f' and convalidated";
    assert_eq!(stage.count(&stage.green, proved).await, 1);
}

#[tokio::test]
async fn what_is_whole_stays_and_is_not_read_again() {
    let stage = Stage::set("copy_stays").await;
    stage.blue.batch_execute("create table public.a (id int); create table public.b (id int); insert into public.a values (1); insert into public.b values (1)").await.unwrap();
    stage.clone_schema().await.unwrap();
    let mut spec = stage.spec().await;
    spec.tables.retain(|table| table.blue.name.as_str() == "a");
    assert_eq!(rows::copy(spec, deaf()).await.unwrap().rows, 1);
    // What comes later is the stream's.
    stage
        .blue
        .batch_execute("insert into public.a values (2); insert into public.b values (2)")
        .await
        .unwrap();
    assert_eq!(rows::copy(stage.spec().await, deaf()).await.unwrap().rows, 3);
    let whole = ledger::list_whole(&stage.green, ATTEMPT).await.unwrap();
    assert_eq!(whole.into_iter().collect::<Vec<_>>(), ["public.a", "public.b"]);

    let tables: Vec<_> = stage.tables().await.into_iter().map(|table| table.green).collect();
    empty::forget(&stage.green, &tables, ATTEMPT, EPOCH).await.unwrap();
    assert_eq!(rows::copy(stage.spec().await, deaf()).await.unwrap().rows, 4);
}

#[tokio::test]
async fn a_table_in_pieces_that_is_truncated_meanwhile_begins_again() {
    let stage = Stage::slow("copy_rewritten").await;
    let notebook = Arc::new(Notebook::default());
    let spec = in_pieces(stage.spec().await, "slow");
    let running = tokio::spawn(rows::copy(spec, notebook.clone()));
    stage.until_copying().await;
    stage
        .blue
        .batch_execute(
            "set lock_timeout = '20s'; truncate public.slow;
             insert into public.slow select n, 'after' from generate_series(1, 50) as n",
        )
        .await
        .unwrap();
    stage.green.batch_execute("drop trigger sleep on public.slow").await.unwrap();
    assert_eq!(running.await.unwrap().unwrap().rows, 50);
    assert_eq!(stage.digests(&stage.blue).await, stage.digests(&stage.green).await);
    let heard = notebook.0.lock().unwrap();
    let told = |part: &str| {
        heard.iter().filter(|event| matches!(event, Event::Warning { text } if text.contains(part))).count()
    };
    assert_eq!(told("truncated or rewritten"), 1, "{heard:?}");
}
