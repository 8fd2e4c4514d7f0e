//! PgBouncer as the route, with real clients on it.

use crate::support::{Pair, PgBouncer, cluster};
use migrate::{
    error::{Kind, Result},
    event::{Deaf, Ears, Event, Listener},
    pg::conninfo::ConnInfo,
    plan::{self, Secret},
    route::{
        OnBehalfOf, Pointing, Proof, Route, RouteBefore,
        pgbouncer::{Instance, Proved},
    },
};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Two servers that can be told apart, and a pooler that leads to the first.
struct Stage {
    pair: Pair,
    pooler: PgBouncer,
}

impl Stage {
    async fn new(name: &str) -> Stage {
        let pair = Pair::fresh(name).await;
        for (client, side) in [(pair.blue().await, "blue"), (pair.green().await, "green")] {
            let sql = "create table side (name text); create table hit (id bigint)";
            client.batch_execute(sql).await.unwrap();
            client.batch_execute(&format!("insert into side values ('{side}')")).await.unwrap();
        }
        let pooler = PgBouncer::start(&pair).await;
        Stage { pair, pooler }
    }

    fn plan(&self, pooler: &PgBouncer) -> plan::PgBouncer {
        plan::PgBouncer {
            admin: Secret::new(pooler.admin_url()),
            database: "app".into(),
            config: pooler.config_path().display().to_string(),
            to: self.pair.green_target(),
        }
    }

    /// A route as a process that was just started would make it.
    fn route(&self) -> Route {
        self.route_over(vec![self.plan(&self.pooler)], Arc::new(Deaf))
    }

    fn route_over(&self, plans: Vec<plan::PgBouncer>, ears: Ears) -> Route {
        let plan = plan::Route { pgbouncer: Some(plans), command: None };
        Route::from_plan(&plan, OnBehalfOf { plan: "test".into(), epoch: 1 }, ears).unwrap()
    }

    fn proof(&self, expect: &str) -> Proof {
        let login = ConnInfo::parse(&self.pair.green_url()).unwrap();
        Proof { login, query: "select name from side".into(), expect: expect.into() }
    }

    fn file(&self) -> String {
        fs::read_to_string(self.pooler.config_path()).unwrap()
    }

    async fn hits(&self) -> (i64, i64) {
        let count = async |client: tokio_postgres::Client| -> i64 {
            client.query_one("select count(*) from hit", &[]).await.unwrap().get(0)
        };
        (count(self.pair.blue().await).await, count(self.pair.green().await).await)
    }

    /// The side a new client of the application reaches.
    async fn reached(&self) -> String {
        let client = cluster::connect(&self.pooler.app_url()).await.unwrap();
        let asked =
            tokio::time::timeout(Duration::from_secs(5), client.simple_query("select name from side"));
        let answer = asked.await.expect("clients are held").unwrap();
        let row = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        row.unwrap().to_owned()
    }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Clients that write through the pooler, one transaction after the other, until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: JoinSet<Vec<String>>,
}

impl Traffic {
    async fn start(url: &str, clients: u64) -> Traffic {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut set = JoinSet::new();
        for client in 0..clients {
            let connection = cluster::connect(url).await.unwrap();
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            set.spawn(async move {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sql = format!("begin; insert into hit values ({client}); commit");
                    match connection.simple_query(&sql).await {
                        Ok(_) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => errors.push(format!("{error:?}")),
                    }
                }
                errors
            });
        }
        Traffic { stop, acknowledged, clients: set }
    }

    /// Waits until `count` more writes were acknowledged.
    async fn flows(&self, count: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        let until = within(10);
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < until, "clients do not get on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What clients saw go wrong, and how many writes were acknowledged.
    async fn end(mut self) -> (Vec<String>, i64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        while let Some(seen) = self.clients.join_next().await {
            errors.extend(seen.unwrap());
        }
        (errors, self.acknowledged.load(Ordering::Relaxed).try_into().unwrap())
    }
}

#[tokio::test]
async fn clients_are_switched_and_back_without_an_error() {
    let stage = Stage::new("route").await;
    let route = stage.route();
    let original = stage.file();
    let traffic = Traffic::start(&stage.pooler.app_url(), 8).await;
    traffic.flows(100).await;

    assert_eq!(route.pointing_at(within(5)).await.unwrap(), Pointing::Elsewhere);
    let before = route.before().await.unwrap();
    route.pause_all(within(5)).await.unwrap();
    assert_eq!(route.paused(within(5)).await.unwrap(), Some(true));
    let quiet = stage.hits().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.hits().await, quiet, "clients write though they are held");
    route.switch_to_green(within(5)).await.unwrap();
    assert_eq!(route.prove_green(&stage.proof("green"), within(5)).await.unwrap(), [Proved::ByQuery]);
    assert_eq!(route.pointing_at(within(5)).await.unwrap(), Pointing::Green);
    assert!(!stage.file().contains("__migrate_probe"));
    route.resume_all(within(5)).await.unwrap();
    assert_eq!(route.prove_live(&stage.proof("green"), within(5)).await.unwrap(), [Proved::ByQuery]);
    assert_eq!(route.prove_live(&stage.proof("blue"), within(5)).await.unwrap_err().kind, Kind::Gate);
    traffic.flows(100).await;
    let at_green = stage.hits().await;
    assert_eq!(at_green.0, quiet.0, "a client still writes to blue");

    route.pause_all(within(5)).await.unwrap();
    route.switch_to_blue(&before, within(5)).await.unwrap();
    route.resume_all(within(5)).await.unwrap();
    traffic.flows(100).await;
    assert_eq!(stage.file(), original);
    let (errors, acknowledged) = traffic.end().await;
    assert_eq!(errors, Vec::<String>::new());
    let (blue, green) = stage.hits().await;
    assert_eq!(blue + green, acknowledged);
    assert!(green >= 100 && blue > quiet.0);
}

#[tokio::test]
async fn a_stuck_transaction_meets_the_deadline_and_everybody_goes_on() {
    let stage = Stage::new("route-stuck").await;
    let second = PgBouncer::start(&stage.pair).await;
    let plans = vec![stage.plan(&stage.pooler), stage.plan(&second)];
    let route = stage.route_over(plans, Arc::new(Deaf));
    let stuck = cluster::connect(&second.app_url()).await.unwrap();
    stuck.simple_query("begin; insert into hit values (1)").await.unwrap();
    let traffic = Traffic::start(&stage.pooler.app_url(), 2).await;
    traffic.flows(10).await;

    let begun = Instant::now();
    let error = route.pause_all(begun + Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Deadline, "{:?}", error.chain());
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("backend")), "{:?}", error.hint);
    assert_eq!(route.paused(within(5)).await.unwrap(), Some(false));
    traffic.flows(10).await;
    stuck.simple_query("commit").await.unwrap();
    let (errors, _) = traffic.end().await;
    assert_eq!(errors, Vec::<String>::new());
    route.pause_all(within(5)).await.unwrap();
    route.resume_all(within(5)).await.unwrap();
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_holds_nobody() {
    let stage = Stage::new("route-unreachable").await;
    let dead = plan::PgBouncer {
        admin: Secret::new("host=127.0.0.1 port=1 user=x password=y"),
        ..stage.plan(&stage.pooler)
    };
    let route = stage.route_over(vec![stage.plan(&stage.pooler), dead], Arc::new(Deaf));
    let begun = Instant::now();
    let error = route.pause_all(within(5)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Connect, "{:?}", error.chain());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(stage.reached().await, "blue");
}

/// Both entries are edited at the same time; neither edit may be lost.
#[tokio::test]
async fn two_entries_of_one_file_move_together() {
    let stage = Stage::new("route-two").await;
    let line = stage.file().lines().find(|line| line.starts_with("app = ")).unwrap().to_owned();
    let two =
        stage.file().replace(&line, &format!("{line}\n; the readers\n{}", line.replacen("app", "app_ro", 1)));
    fs::write(stage.pooler.config_path(), &two).unwrap();
    let admin = cluster::connect(&stage.pooler.admin_url()).await.unwrap();
    admin.simple_query("RELOAD").await.unwrap();
    let readers = plan::PgBouncer { database: "app_ro".into(), ..stage.plan(&stage.pooler) };
    let route = stage.route_over(vec![stage.plan(&stage.pooler), readers], Arc::new(Deaf));
    let before = route.before().await.unwrap();
    route.pause_all(within(5)).await.unwrap();
    route.switch_to_green(within(5)).await.unwrap();
    let proved = route.prove_green(&stage.proof("green"), within(5)).await.unwrap();
    assert_eq!(proved, [Proved::ByQuery, Proved::ByQuery]);
    assert_eq!(
        stage.file(),
        two.replace(&format!("port={}", stage.pair.blue_server().port), "PORT")
            .replace(&format!("dbname={}", stage.pair.blue_database()), "DB")
            .replace("PORT", &format!("port={}", stage.pair.green_server().port))
            .replace("DB", &format!("dbname={}", stage.pair.green_database()))
    );
    route.switch_to_blue(&before, within(5)).await.unwrap();
    route.resume_all(within(5)).await.unwrap();
    assert_eq!(stage.file(), two);
}

/// On 1.18, once anybody gave WAIT_CLOSE, PAUSE answers at once though transactions run.
#[tokio::test]
async fn a_pause_that_answers_too_early_is_not_believed() {
    let stage = Stage::new("route-early").await;
    let admin = cluster::connect(&stage.pooler.admin_url()).await.unwrap();
    let stuck = cluster::connect(&stage.pooler.app_url()).await.unwrap();
    admin.simple_query("WAIT_CLOSE app").await.unwrap();
    stuck.simple_query("begin; insert into hit values (1)").await.unwrap();
    let route = stage.route();
    let error = route.pause_all(Instant::now() + Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Deadline);
    stuck.simple_query("commit").await.unwrap();
    route.pause_all(within(5)).await.unwrap();
    route.resume_all(within(5)).await.unwrap();
}

/// PAUSE takes a login that it breaks off for a failure of the server, and would hold clients back for 15 s after RESUME.
#[tokio::test]
async fn a_login_broken_off_by_the_pause_does_not_lock_clients_out() {
    let stage = Stage::new("route-login-race").await;
    let black_hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = format!("port={}", black_hole.local_addr().unwrap().port());
    let blue_port = format!("port={}", stage.pair.blue_server().port);
    let file = stage.file();
    fs::write(stage.pooler.config_path(), file.replacen(&blue_port, &port, 1)).unwrap();
    let admin = cluster::connect(&stage.pooler.admin_url()).await.unwrap();
    admin.simple_query("RELOAD").await.unwrap();
    let url = stage.pooler.app_url();
    let client = tokio::spawn(async move {
        let client = cluster::connect(&url).await.unwrap();
        client.simple_query("insert into hit values (1)").await.unwrap();
    });
    black_hole.accept().await.unwrap();

    let route = stage.route();
    route.pause_all(within(5)).await.unwrap();
    route.switch_to_green(within(5)).await.unwrap();
    let resumed = Instant::now();
    route.resume_all(within(5)).await.unwrap();
    client.await.unwrap();
    assert!(resumed.elapsed() < Duration::from_secs(2), "{:?}", resumed.elapsed());
    let settings = admin.simple_query("SHOW CONFIG").await.unwrap();
    let retry = settings.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("server_login_retry") => {
            row.get(1)
        }
        _ => None,
    });
    assert_eq!(retry, Some("15"), "what SET changed was not given back");
}

/// The switch, each operation by a process of its own that dies after `operations` of them.
async fn forward(stage: &Stage, before: &mut Option<RouteBefore>, operations: usize) -> Result<()> {
    for operation in 0..operations {
        let route = stage.route();
        match operation {
            0 if before.is_none() => *before = Some(route.before().await?),
            0 => {}
            1 => route.pause_all(within(5)).await?,
            2 => route.switch_to_green(within(5)).await?,
            3 => drop(route.prove_green(&stage.proof("green"), within(5)).await?),
            _ => route.resume_all(within(5)).await?,
        }
    }
    Ok(())
}

async fn back(stage: &Stage, before: &RouteBefore) -> Result<()> {
    stage.route().pause_all(within(5)).await?;
    stage.route().switch_to_blue(before, within(5)).await?;
    stage.route().resume_all(within(5)).await
}

#[tokio::test]
async fn another_process_finishes_or_takes_back_after_any_operation() {
    let stage = Stage::new("route-killed").await;
    let original = stage.file();
    let traffic = Traffic::start(&stage.pooler.app_url(), 4).await;
    for died_after in 0..=4 {
        let mut before = None;
        forward(&stage, &mut before, died_after).await.unwrap();
        forward(&stage, &mut before, 5).await.unwrap();
        assert_eq!(stage.reached().await, "green", "after {died_after}");
        back(&stage, before.as_ref().unwrap()).await.unwrap();
        assert_eq!(stage.file(), original, "after {died_after}");

        let mut before = None;
        forward(&stage, &mut before, died_after.max(1)).await.unwrap();
        back(&stage, before.as_ref().unwrap()).await.unwrap();
        assert_eq!(stage.file(), original, "after {died_after}");
        assert_eq!(stage.reached().await, "blue", "after {died_after}");
    }
    traffic.flows(10).await;
    assert_eq!(traffic.end().await.0, Vec::<String>::new());
}

/// The task is dropped at some await, and its threads are at their end: as near to kill -9 as one process comes.
#[tokio::test]
async fn dying_inside_an_operation_leaves_what_another_process_can_finish() {
    let stage = Stage::new("route-aborted").await;
    let original = stage.file();
    // The first one lives to the end, and tells how long the whole takes here.
    let mut whole = Duration::from_secs(20);
    for eighth in [8, 0, 1, 2, 3, 4, 5, 6, 7] {
        let begun = Instant::now();
        let before = stage.route().before().await.unwrap();
        let route = stage.route();
        let proof = stage.proof("green");
        let dying = async move {
            route.pause_all(within(5)).await?;
            route.switch_to_green(within(5)).await?;
            route.prove_green(&proof, within(5)).await?;
            route.resume_all(within(5)).await
        };
        let lived = whole * eighth / 8;
        let dies = move || {
            let process = tokio::runtime::Runtime::new().unwrap();
            let _ = process.block_on(async { tokio::time::timeout(lived, dying).await });
        };
        tokio::task::spawn_blocking(dies).await.unwrap();
        if eighth == 8 {
            whole = begun.elapsed();
        }
        forward(&stage, &mut Some(before.clone()), 5).await.unwrap();
        assert_eq!(stage.reached().await, "green", "after {eighth} eighths");
        back(&stage, &before).await.unwrap();
        assert_eq!(stage.file(), original, "after {eighth} eighths");
    }
}

#[tokio::test]
async fn a_wrong_target_is_proved_wrong_before_clients_go_on() {
    let stage = Stage::new("route-wrong").await;
    let route = stage.route();
    let original = stage.file();
    let error = route.rehearse_green(&stage.proof("another"), within(5)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("answers `green`"), "{}", error.what);
    assert_eq!(stage.file(), original);
    assert_eq!(route.rehearse_green(&stage.proof("green"), within(5)).await.unwrap(), [Proved::ByQuery]);
    assert_eq!(stage.file(), original);
    assert_eq!(stage.reached().await, "blue");

    let mut plan = stage.plan(&stage.pooler);
    plan.to = "host=127.0.0.1 port=1 dbname=app".into();
    let nowhere = stage.route_over(vec![plan], Arc::new(Deaf));
    let error = nowhere.rehearse_green(&stage.proof("green"), within(3)).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Gate), "{:?}", error.chain());
    assert_eq!(stage.file(), original);
}

#[tokio::test]
async fn an_entry_that_is_not_paused_is_not_moved() {
    let stage = Stage::new("route-unpaused").await;
    let original = stage.file();
    let error = stage.route().switch_to_green(within(5)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Request);
    assert!(error.what.contains("not paused"));
    assert_eq!(stage.file(), original);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn tell(&self, event: Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[tokio::test]
async fn a_login_that_the_pooler_refuses_is_a_warning() {
    let stage = Stage::new("route-login").await;
    let heard = Arc::new(Heard::default());
    let route = stage.route_over(vec![stage.plan(&stage.pooler)], heard.clone());
    for login in ["postgresql://postgres:wr0ng@h/d", "postgresql://nobody:wr0ng@h/d"] {
        let proof = Proof { login: ConnInfo::parse(login).unwrap(), ..stage.proof("green") };
        let proved = route.rehearse_green(&proof, within(5)).await.unwrap();
        assert!(matches!(proved[..], [Proved::ByConsole { .. }]), "{proved:?}");
    }
    let warnings = heard.0.lock().unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(!warnings.concat().contains("wr0ng"), "{warnings:?}");
    assert!(warnings[1].contains("let `nobody` log in"), "{warnings:?}");
}

async fn codes(stage: &Stage, plan: &plan::PgBouncer) -> Vec<String> {
    let instance = Instance::new(plan, Arc::default()).unwrap();
    let facts = instance.inspect(within(5)).await;
    let _ = stage;
    facts.findings(&plan.config, Duration::from_secs(5)).into_iter().map(|finding| finding.code).collect()
}

#[tokio::test]
async fn check_sees_what_would_go_wrong() {
    let stage = Stage::new("route-check").await;
    let sound = stage.plan(&stage.pooler);
    let original = stage.file();
    assert_eq!(codes(&stage, &sound).await, Vec::<String>::new());
    assert_eq!(stage.file(), original);

    let nobody =
        plan::PgBouncer { admin: Secret::new("host=127.0.0.1 port=1 user=x password=y"), ..sound.clone() };
    assert_eq!(codes(&stage, &nobody).await, ["ROUTE_UNREACHABLE"]);
    let missing = plan::PgBouncer { database: "other".into(), ..sound.clone() };
    assert_eq!(codes(&stage, &missing).await, ["ROUTE_ENTRY", "ROUTE_CONFIG"]);

    let admin = cluster::connect(&stage.pooler.admin_url()).await.unwrap();
    fs::write(stage.pooler.config_path(), original.replace("= transaction", "= session")).unwrap();
    admin.simple_query("RELOAD").await.unwrap();
    admin.simple_query("PAUSE app").await.unwrap();
    assert_eq!(codes(&stage, &sound).await, ["ROUTE_SESSION_MODE", "ROUTE_PAUSED"]);
    admin.simple_query("RESUME app").await.unwrap();
    fs::write(stage.pooler.config_path(), original.replace("dbname=", "dbname=x")).unwrap();
    assert_eq!(codes(&stage, &sound).await, ["ROUTE_SESSION_MODE", "ROUTE_NOT_RELOADED"]);
}
