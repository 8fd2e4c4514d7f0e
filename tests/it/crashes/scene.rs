//! A migration under traffic, whose commands are killed.

use super::points::{self, Point, WhileGoing};
use crate::support::history::{Baseline, History, Verdict};
use crate::support::run::{Output, Running};
use crate::support::traffic::{Load, Traffic};
use crate::support::{Broker, Desk, Majors, Pair, PgBouncer, migrate};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// How long clients may take to be served again, or a command to come where it is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many answered writes prove that clients are served.
const ENOUGH_WRITES: u64 = 40;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of a process that was killed by `kill -9`.
const SIGKILL: i32 = 9;

/// Where clients are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Blue,
    Green,
}

/// Blue, green, a pooler, a broker, a plan on a desk, and clients that never stop.
pub struct Scene {
    pub history: Arc<History>,
    pub pair: Pair,
    pub bouncer: PgBouncer,
    pub traffic: Traffic,
    baseline: Baseline,
    entry: String,
    desk: Desk,
    plan: String,
    variables: [(&'static str, String); 6],
    _broker: Broker,
}

/// What a refused command must leave as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct World {
    gates: [String; 2],
    journal: Vec<String>,
    triggers: i64,
    entry: String,
}

impl Scene {
    /// With the demo's plan and a pause budget that a debug build on a busy machine keeps.
    pub async fn set(name: &str) -> Scene {
        Scene::with(name, "pause_max: 15s").await
    }

    /// As [`Scene::set`], with these settings in place of `pause_max`.
    pub async fn with(name: &str, settings: &str) -> Scene {
        Scene::on(Pair::fresh(name).await, name, settings).await
    }

    /// As [`Scene::caught_up`], with these settings in place of `pause_max`, on servers that the test may kill.
    pub async fn caught_up_on_own_servers(name: &str, settings: &str) -> Scene {
        let pair = Pair::of_own_servers(name, Majors::OLDEST, Majors::NEWEST).await;
        let scene = Scene::on(pair, name, settings).await;
        scene.run("replicate", &["--until-caught-up"]).await.expect(0);
        scene
    }

    async fn on(pair: Pair, name: &str, settings: &str) -> Scene {
        let loaded = pair.oauth(2_000).await;
        let (bouncer, broker) = (PgBouncer::start(&pair).await, Broker::shared().await);
        let desk = Desk::new(name);
        let text = include_str!("../../../plans/demo.yaml");
        assert!(text.contains("pause_max: 5s"), "the demo's plan names its budget in another way now");
        // A name of its own: virtual hosts, and with them queues, come around again.
        let named = format!("name: crash-{:08x}\n", rand::random::<u32>());
        let text = text.replace("name: demo\n", &named).replace("pause_max: 5s", settings);
        let plan = desk.write("plan.yaml", &text);
        let variables = [
            ("BLUE_URL", pair.blue_url()),
            ("GREEN_URL", pair.green_url()),
            ("AMQP_URL", broker.url()),
            ("PGB_ADMIN", bouncer.admin_url()),
            ("PGB_CONFIG", bouncer.config_path().display().to_string()),
            ("PGB_TO", pair.green_target()),
        ];
        let baseline = Baseline::read(&pair.blue().await, loaded).await.unwrap();
        let history = Arc::new(History::default());
        let load = Load { workers: 4, seed: points::seed(), ..Load::default() };
        let traffic =
            Traffic::start(&bouncer.app_url(), Arc::clone(&history), loaded.clients, &load).await.unwrap();
        let entry = entry(&bouncer);
        Scene { history, pair, bouncer, traffic, baseline, entry, desk, plan, variables, _broker: broker }
    }

    /// As [`Scene::set`], and green has caught up.
    pub async fn caught_up(name: &str) -> Scene {
        let scene = Scene::set(name).await;
        scene.run("replicate", &["--until-caught-up"]).await.expect(0);
        scene
    }

    /// Lets the commands come in as another role.
    pub fn act_as(&mut self, role: &str, password: &str) {
        for (name, value) in &mut self.variables {
            if matches!(*name, "BLUE_URL" | "GREEN_URL") {
                let (_, place) = value.split_once('@').expect("a URL with a user");
                *value = format!("postgresql://{role}:{password}@{place}");
            }
        }
    }

    fn prepare(&self, command: &str, more: &[&str]) -> crate::support::run::Invocation {
        let mut args = vec![command, self.plan.as_str()];
        args.extend(more);
        let mut invocation = migrate(&args).within(self.desk.path());
        for (name, value) in &self.variables {
            invocation = invocation.env(name, value);
        }
        invocation
    }

    pub async fn run(&self, command: &str, more: &[&str]) -> Output {
        self.prepare(command, more).run().await
    }

    pub fn start(&self, command: &str, more: &[&str]) -> Running {
        self.prepare(command, more).start()
    }

    /// Starts a command, and waits until it sleeps at a point.
    pub async fn asleep(&self, command: &str, at: &str) -> Running {
        let mut running = self.prepare(command, &[]).env("MIGRATE_SLEEP_POINT", at).start();
        running.falls_asleep().await;
        running
    }

    /// Runs a command that is killed at a point.
    pub async fn dies(&self, command: &str, more: &[&str], at: &str) {
        let output = self.prepare(command, more).env("MIGRATE_FAIL_POINT", at).run().await;
        assert_eq!(output.signal, Some(SIGKILL), "`migrate {command}` does not come to {at}: {output:?}");
    }

    /// The cutover, or the way back from it, is killed at a point.
    pub async fn dies_at(&self, point: &Point) {
        match point.going {
            WhileGoing::Forward => self.dies("cutover", &[], &point.name).await,
            WhileGoing::Back => {
                self.dies("cutover", &[], points::ALL_BUT_OPENED).await;
                self.dies("rollback", &[], &point.name).await;
            }
        }
    }

    /// Starts `replicate`, and waits until green follows.
    pub async fn following(&self) -> Running {
        let mut replicate = self.start("replicate", &[]);
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.run("status", &["--format", "json"]).await;
            if status.code == 0 && status.json()["caught_up"] == true {
                return replicate;
            }
            if replicate.has_ended() || Instant::now() > until {
                panic!("green does not follow: {:?}\n{:?}", replicate.kill().await, status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The ids of the steps of the phases that are killed, as the program has them.
    pub async fn steps(&self) -> Vec<String> {
        let status = self.run("status", &["--format", "json"]).await.expect(0).json();
        let phases = status["phases"].as_array().unwrap().iter();
        phases
            .filter(|phase| ["arm", "switch", "settle"].contains(&phase["name"].as_str().unwrap()))
            .flat_map(|phase| phase["steps"].as_array().unwrap())
            .map(|step| step[0].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until writes are answered, by the side they should be.
    pub async fn clients_are_served(&self, by: By, after: &str) {
        let (began, before) = (Instant::now(), self.history.acknowledged());
        while self.history.acknowledged() < before + ENOUGH_WRITES {
            assert!(began.elapsed() < PATIENCE, "clients are held after {after}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let moved = entry(&self.bouncer) != self.entry;
        assert_eq!(moved, by == By::Green, "the route leads elsewhere after {after}");
    }

    /// Every answered write is there, nothing else is, and no client had an error.
    pub async fn history_is_clean(&self, by: By, after: &str) {
        let _resting = self.traffic.rest().await;
        let database = match by {
            By::Blue => self.pair.blue().await,
            By::Green => self.pair.green().await,
        };
        let verdict: Verdict = self.history.check(&database, &self.baseline).await.unwrap();
        assert!(verdict.clean() && verdict.doubtful == 0, "after {after}: {verdict:#?}");
    }

    /// Blue takes writes without a gate, green takes none, and the route is as it was.
    pub async fn is_as_before(&self, after: &str) {
        let world = self.look().await;
        assert_eq!(world.gates, ["OPEN false".to_owned(), "CLOSED true".to_owned()], "after {after}");
        assert_eq!((world.triggers, &world.entry), (0, &self.entry), "after {after}");
        self.clients_are_served(By::Blue, after).await;
    }

    /// What a refused command must leave as it was.
    pub async fn look(&self) -> World {
        let (blue, green) = (self.pair.blue().await, self.pair.green().await);
        let journal = "select coalesce(array_agg(concat_ws(' ', seq, epoch, step, event) order by seq), '{}') from migrate.journal";
        World {
            gates: [gate(&blue).await, gate(&green).await],
            journal: green.query_one(journal, &[]).await.unwrap().get(0),
            triggers: number(&blue, "select count(*) from pg_trigger where tgname = 'migrate_gate'").await,
            entry: entry(&self.bouncer),
        }
    }

    /// Nothing of ours is anywhere.
    pub async fn nothing_is_left(&self) {
        let (blue, green) = (self.pair.blue().await, self.pair.green().await);
        for (side, client) in [("blue", &blue), ("green", &green)] {
            for what in [
                "select count(*) from pg_replication_slots where database = current_database()",
                "select count(*) from pg_publication",
                "select count(*) from pg_namespace where nspname = 'migrate'",
                "select count(*) from pg_trigger where tgname = 'migrate_gate'",
            ] {
                assert_eq!(number(client, what).await, 0, "{side}: {what}");
            }
        }
        let relations = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
        assert_eq!(number(&green, relations).await, 0, "green has relations of the copy left");
    }

    /// Lets clients go home.
    pub async fn end(self) {
        self.traffic.stop().await.unwrap();
    }
}

/// The pooler's line for the clients' database.
fn entry(bouncer: &PgBouncer) -> String {
    let text = std::fs::read_to_string(bouncer.config_path()).unwrap();
    text.lines().find(|line| line.starts_with("app ")).expect("an entry `app`").to_owned()
}

async fn gate(client: &Client) -> String {
    let row = client.query_one("select state || ' ' || closed from migrate.gate", &[]).await.unwrap();
    row.get(0)
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}
