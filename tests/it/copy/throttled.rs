//! The copy within the plan's throttle: one rate for all streams, waits while blue is over a limit, limits that change.

use super::stage::{Notebook, Stage, in_pieces, throttled};
use migrate::copy::cutting::Chunking;
use migrate::copy::rows::{self, CopySpec, CopyTotals};
use migrate::error::{Error, Kind};
use migrate::event::Event;
use migrate::plan::Throttle;
use migrate::plan::quantity::{LagMax, Rate, Size};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);
const MB: u64 = 1 << 20;

/// Two tables of some 16 MB each, more than the sockets between the servers hold, and a table that is not copied: whether blue is busy.
const TABLES: &str = "
    create table public.a (id int primary key, body text);
    alter table public.a alter column body set storage external;
    insert into public.a select n, repeat(md5(n::text), 64) from generate_series(1, 8000) as n;
    create table public.b (like public.a including all);
    insert into public.b select * from public.a;
    create schema watched; create table watched.busy (now bool); insert into watched.busy values (false)";

struct Run {
    stage: Stage,
    limits: watch::Sender<Throttle>,
    heard: Arc<Notebook>,
    copying: JoinHandle<Result<CopyTotals, Error>>,
}

fn rate(bytes: u64) -> Throttle {
    Throttle { rate_max: Some(Rate(bytes)), ..Throttle::default() }
}

/// Waits while the table of blue says so, and is slow enough that there is a middle.
fn while_busy() -> Throttle {
    Throttle { pause_while: Some("select now from watched.busy".into()), ..rate(2 * MB) }
}

async fn two_tables(name: &str) -> Stage {
    let stage = Stage::set(name).await;
    stage.blue.batch_execute(TABLES).await.unwrap();
    stage.clone_schema().await.unwrap();
    stage
}

async fn begin(
    stage: Stage,
    limits: Throttle,
    held_max: Duration,
    shape: impl Fn(CopySpec) -> CopySpec,
) -> Run {
    let (change, mut throttling) = throttled(limits);
    throttling.held_max = held_max;
    let mut spec = shape(stage.spec().await);
    spec.tables.retain(|table| table.blue.schema.as_str() == "public");
    spec.workers = 2;
    spec.throttle = throttling;
    let heard = Arc::new(Notebook::default());
    let copying = tokio::spawn(rows::copy(spec, heard.clone()));
    Run { stage, limits: change, heard, copying }
}

impl Run {
    async fn busy(&self, now: bool) {
        self.stage.blue.batch_execute(&format!("update watched.busy set now = {now}")).await.unwrap();
    }

    /// Bytes of both tables so far, as told.
    fn bytes(&self) -> u64 {
        let mut bytes = [0, 0];
        for event in self.heard.0.lock().unwrap().iter() {
            if let Event::Progress { subject, bytes: now, .. } = event {
                bytes[usize::from(subject == "public.b")] = *now;
            }
        }
        bytes.iter().sum()
    }

    fn heard(&self, part: &str) -> usize {
        let says = |event: &&Event| match event {
            Event::Warning { text } | Event::Note { text } => text.contains(part),
            Event::Throttled { by: Some(by) } => by.contains(part),
            Event::Throttled { by: None } => part == "goes on",
            _ => false,
        };
        self.heard.0.lock().unwrap().iter().filter(says).count()
    }

    async fn until(&self, what: &str, reached: impl Fn(&Run) -> bool) {
        let begun = Instant::now();
        while !reached(self) {
            assert!(
                !self.copying.is_finished() && begun.elapsed() < PATIENCE,
                "{what}: {:?}",
                self.heard.0.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn waits(&self) -> bool {
        let before = self.bytes();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        self.bytes() == before
    }

    async fn snapshots(&self) -> i64 {
        let held = "select count(*) from pg_stat_activity where application_name like 'migrate 7: copy%' and backend_xmin is not null and datname = current_database()";
        self.stage.count(&self.stage.blue, held).await
    }

    async fn ends(&mut self) -> CopyTotals {
        let ended = tokio::time::timeout(PATIENCE, &mut self.copying).await.expect("it ends");
        ended.unwrap().unwrap_or_else(|error| panic!("{:?}", error.chain()))
    }

    async fn is_whole(&self) {
        for table in ["a", "b"] {
            let sql = format!("select count(*) || ' ' || sum(hashtext(body)) from public.{table}");
            let sum = async |side: &tokio_postgres::Client| {
                side.query_one(&sql, &[]).await.unwrap().get::<_, String>(0)
            };
            assert_eq!(sum(&self.stage.blue).await, sum(&self.stage.green).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_share_one_rate() {
    let stage = two_tables("copy_rate").await;
    let mut run = begin(stage, rate(2 * MB), PATIENCE, |spec| spec).await;
    run.until("it begins", |run| run.bytes() > 0).await;
    let (begun, before) = (Instant::now(), run.bytes());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let moved = (run.bytes() - before) as f64 / begun.elapsed().as_secs_f64();
    assert!((1.6..2.4).contains(&(moved / MB as f64)), "{moved} bytes a second");
    // Both at once, or it would prove nothing of their sharing it.
    assert_eq!(run.snapshots().await, 2);

    // Without the limit the rest takes no time.
    assert!(run.bytes() < 10 * MB, "{}", run.bytes());
    let begun = Instant::now();
    run.limits.send(Throttle::default()).unwrap();
    assert_eq!(run.ends().await.rows, 16_000);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((run.heard("rate_max 2MB/s"), run.heard("no limits")), (1, 1));
    run.is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_blue_is_busy_the_copy_waits_and_is_in_nobodys_way() {
    let stage = two_tables("copy_pause").await;
    stage.blue.batch_execute("update watched.busy set now = true").await.unwrap();
    let mut run = begin(stage, while_busy(), PATIENCE, |spec| spec).await;
    // Before anything is begun, nothing is held.
    assert!(run.waits().await && run.bytes() == 0);
    assert_eq!(run.snapshots().await, 0);
    run.busy(false).await;
    run.until("it begins", |run| run.bytes() > MB).await;
    assert_eq!(run.heard("goes on"), 1);

    run.busy(true).await;
    run.until("it waits", |run| run.heard("pause_while") == 3).await;
    assert!(run.waits().await);
    let said = include_str!("../../../sql/journey/read_throttled.sql");
    assert_eq!(run.stage.blue.query_one(said, &[]).await.unwrap().get::<_, String>(0), "pause_while");
    // In the middle of a table, whose lock somebody wants now.
    let begun = Instant::now();
    run.stage
        .blue
        .batch_execute("set lock_timeout = '20s'; alter table public.a set (fillfactor = 90)")
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());

    run.busy(false).await;
    run.until("it goes on", |run| run.heard("goes on") == 2).await;
    assert!(run.stage.blue.query_opt(said, &[]).await.unwrap().is_none());
    run.limits.send(Throttle::default()).unwrap();
    assert_eq!(run.ends().await.rows, 16_000);
    run.is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_blue_cannot_answer_are_refused_and_the_old_ones_stay() {
    let unknown = Throttle { pause_while: Some("select now from busy".into()), ..Throttle::default() };
    let stage = two_tables("copy_limits").await;
    let mut run = begin(stage, unknown.clone(), PATIENCE, |spec| spec).await;
    let error = (&mut run.copying).await.unwrap().unwrap_err();
    assert!(error.kind == Kind::Plan && error.what.contains("pause_while"), "{:?}", error.chain());
    assert_eq!(run.stage.count(&run.stage.green, "select count(*) from migrate.copy_table").await, 0);

    let mut run = begin(run.stage, rate(2 * MB), PATIENCE, |spec| spec).await;
    run.until("it begins", |run| run.bytes() > 0).await;
    for refused in [unknown, Throttle { pause_while: Some("select 1".into()), ..Throttle::default() }] {
        run.limits.send(refused).unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    assert_eq!(run.heard("the old one stays"), 2);
    assert!(run.bytes() < 8 * MB, "the rate is gone");

    // What was asked with success and fails later holds nothing back.
    run.limits.send(while_busy()).unwrap();
    run.until("it is taken", |run| run.heard("was changed") == 1).await;
    run.stage.blue.batch_execute("drop table watched.busy").await.unwrap();
    assert_eq!(run.ends().await.rows, 16_000);
    assert_eq!(run.heard("cannot be looked at"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_sessions_are_counted_without_ours() {
    let stage = two_tables("copy_sessions").await;
    let limits = Throttle {
        active_sessions_max: Some(1),
        replica_lag_max: Some(LagMax::Wal(Size(1))),
        ..rate(2 * MB)
    };
    let mut run = begin(stage, limits, PATIENCE, |spec| spec).await;
    run.until("it begins", |run| run.bytes() > 0).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = run.stage.pair.blue().await;
        clients.push(tokio::spawn(async move { client.batch_execute("select pg_sleep(4)").await }));
    }
    run.until("it waits", |run| run.heard("2 sessions are active on blue, 1 are allowed") == 1).await;
    assert!(run.waits().await);
    run.until("it goes on", |run| run.heard("goes on") == 1).await;
    run.limits.send(Throttle::default()).unwrap();
    assert_eq!(run.ends().await.rows, 16_000);
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

/// Each still larger than what the sockets hold.
fn in_two_ranges(mut spec: CopySpec) -> CopySpec {
    for table in spec.tables.iter_mut().filter(|table| table.blue.name.as_str() == "a") {
        table.chunking = Chunking::Must(table.bytes / 2);
    }
    spec
}

/// However the tables are cut, a long wait lets blue's snapshots go, and the copy becomes whole after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_wait_lets_blues_snapshots_go() {
    type Shape = fn(CopySpec) -> CopySpec;
    let shapes: [(&str, Shape); 3] =
        [("whole", |spec| spec), ("blocks", |spec| in_pieces(spec, "a")), ("ranges", in_two_ranges)];
    for (name, shape) in shapes {
        let stage = two_tables(&format!("copy_held_{name}")).await;
        let mut run = begin(stage, while_busy(), Duration::from_secs(1), shape).await;
        run.until("it begins", |run| run.bytes() > MB).await;
        assert!(run.snapshots().await > 0, "{name}");
        run.busy(true).await;
        run.until("it waits", |run| run.heard("pause_while") == 2).await;
        run.until("it lets go", |run| run.heard("is let go") >= 1).await;
        let begun = Instant::now();
        while run.snapshots().await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{name}: a snapshot is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        run.busy(false).await;
        run.until("it goes on", |run| run.heard("goes on") == 1).await;
        run.limits.send(Throttle::default()).unwrap();
        assert_eq!(run.ends().await.rows, 16_000, "{name}");
        run.is_whole().await;
    }
}
