//! A trial: tables drawn by a seed, transactions on them, and followers that come to their end.

use super::history::{Historian, Style, draw_length};
use super::tables::{self, Identity, Table};
use crate::stream::{PATIENCE, Scene, followed};
use crate::support::Pair;
use migrate::stream::follow::{FollowStatus, Follower};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// Two servers for one trial after the other.
pub struct Ground {
    scene: Scene,
    majors: (u32, u32),
    /// Green may be killed.
    own: bool,
    pub sum: Sum,
}

/// What the trials came to.
#[derive(Debug, Default, Clone)]
pub struct Sum {
    pub trials: u32,
    pub transactions: u64,
    pub rows: u64,
    pub set_based: u64,
    pub replayed: u64,
    pub followers_dropped: u32,
    pub connections_ended: u32,
    pub crashes_of_green: u32,
}

/// What the follower does while blue is written to.
enum Way {
    CloseBehind,
    Backlog,
    DyingAgainAndAgain,
}

impl Ground {
    pub async fn of_own_servers(blue: u32, green: u32) -> Ground {
        Ground::on(Pair::of_own_servers("random", blue, green).await, (blue, green), true).await
    }

    pub async fn of_shared_servers(blue: u32, green: u32) -> Ground {
        Ground::on(Pair::of_majors("random", blue, green).await, (blue, green), false).await
    }

    async fn on(pair: Pair, majors: (u32, u32), own: bool) -> Ground {
        let scene = Scene::bare(pair).await;
        for client in [&scene.blue, &scene.green] {
            client.batch_execute(tables::TYPES).await.unwrap();
        }
        Ground { scene, majors, own, sum: Sum::default() }
    }

    /// Runs the trial of a seed.
    ///
    /// # Panics
    /// When green is not as blue, or a follower fails.
    pub async fn try_one(&mut self, seed: u64) {
        let (blue, green) = self.majors;
        let began = Instant::now();
        // Shown when anything fails.
        eprintln!("trial of seed {seed} on {blue} and {green}");
        let mut random = StdRng::seed_from_u64(seed);
        let style = if random.random() { Style::Anything } else { Style::Sets };
        let count = random.random_range(2..=5);
        let tables: Vec<Table> =
            (0..count).map(|at| Table::draw(&mut random, &format!("r{seed}_{at}"), blue, style)).collect();
        self.make(seed, &tables).await;
        // Every other blue sends transactions while they run, as soon as they have some rows.
        let held = if seed % 2 == 1 { "64kB" } else { "64MB" };
        let database = self.scene.pair.blue_database();
        self.scene
            .run(&format!("alter database \"{database}\" set logical_decoding_work_mem = '{held}'"))
            .await;
        let mut chance = StdRng::seed_from_u64(seed ^ u64::MAX);
        let mut historian = Historian::new(random, style);
        let rounds = historian.random.random_range(2..=3);
        for round in 0..rounds {
            let mut history: Vec<String> =
                (0..draw_length(&mut historian.random)).map(|_| historian.transaction(&tables)).collect();
            let narrow = tables.iter().find(|table| table.is_narrow());
            if let (true, Some(narrow)) = (round + 1 == rounds && historian.random.random_ratio(1, 3), narrow)
            {
                history.push(historian.large_transaction(narrow));
            }
            self.round(&mut chance, history).await;
            let follower = self.scene.follow();
            self.scene.drained(&follower, &format!("{seed} {round}")).await;
            let status = follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
            self.note(&status);
            for table in &tables {
                self.assert_same(seed, table).await;
            }
        }
        self.remove(&tables).await;
        self.sum.trials += 1;
        println!(
            "proof: {blue} to {green}, equal | seed {seed} | {style:?}: {count} tables, {rounds} catch-ups | {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }

    async fn make(&mut self, seed: u64, tables: &[Table]) {
        for table in tables {
            let ddl = table.ddl();
            eprintln!("  {:?}: {ddl}", table.identity);
            for client in [&self.scene.blue, &self.scene.green] {
                client.batch_execute(&ddl).await.unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
            }
        }
        let published: Vec<_> = tables
            .iter()
            .map(|table| {
                let key: Vec<&str> = table.key.iter().map(String::as_str).collect();
                (followed(&table.name, &table.name, &key), "")
            })
            .collect();
        self.scene.spec = self.scene.publish(&format!("r{seed}"), &published).await;
    }

    /// Room for the next trial.
    async fn remove(&self, tables: &[Table]) {
        let began = Instant::now();
        let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active";
        while self.scene.blue.query(drop, &[&self.scene.spec.slot]).await.unwrap().is_empty() {
            assert!(began.elapsed() < PATIENCE, "the slot stays in use");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for client in [&self.scene.blue, &self.scene.green] {
            for table in tables {
                client.batch_execute(&format!("drop table public.{}", table.name)).await.unwrap();
            }
        }
        self.scene.run(&format!("drop publication {}", self.scene.spec.publication)).await;
    }

    /// Writes a history on blue, and has followers live and die beside it.
    async fn round(&mut self, chance: &mut StdRng, history: Vec<String>) {
        let way = match chance.random_range(0..5) {
            0 => Way::CloseBehind,
            1 => Way::Backlog,
            _ => Way::DyingAgainAndAgain,
        };
        let writer = tokio::spawn(write(self.scene.pair.blue_url(), history));
        match way {
            Way::CloseBehind => {
                let follower = self.scene.follow();
                writer.await.expect("the history is written");
                self.end(chance, follower).await;
            }
            Way::Backlog => writer.await.expect("the history is written"),
            Way::DyingAgainAndAgain => {
                while !writer.is_finished() {
                    self.live_and_die(chance).await;
                }
                writer.await.expect("the history is written");
            }
        }
        for _ in 0..chance.random_range(0..=3) {
            self.live_and_die(chance).await;
        }
    }

    async fn live_and_die(&mut self, chance: &mut StdRng) {
        let follower = self.scene.follow();
        tokio::time::sleep(Duration::from_millis(chance.random_range(10..=350))).await;
        self.end(chance, follower).await;
    }

    /// Ends a follower in one way or another; it must not have failed by itself.
    async fn end(&mut self, chance: &mut StdRng, follower: Follower) {
        let mut restarted = false;
        match chance.random_range(0..12) {
            0 if self.own => {
                self.scene.pair.kill_green();
                restarted = true;
                self.sum.crashes_of_green += 1;
            }
            1 => self.terminate("migrate: apply", true).await,
            2 => self.terminate("migrate: follow", false).await,
            3 => {
                let status = follower.stop(PATIENCE).await;
                self.note(&status.unwrap_or_else(|error| panic!("{:?}", error.chain())));
                return;
            }
            _ => {}
        }
        if restarted {
            self.scene.pair.restart_green().await;
            self.scene.green = self.scene.pair.green().await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..=150))).await;
        let status = follower.status().borrow().clone();
        if let Some(failed) = &status.failed {
            panic!("the follower failed: {failed}");
        }
        self.note(&status);
        self.sum.followers_dropped += 1;
        drop(follower);
    }

    /// Its connection is gone, and it goes on by itself.
    async fn terminate(&mut self, purpose: &str, on_green: bool) {
        let client = if on_green { &self.scene.green } else { &self.scene.blue };
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
        client.execute(sql, &[&purpose]).await.unwrap();
        self.sum.connections_ended += 1;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    fn note(&mut self, status: &FollowStatus) {
        self.sum.transactions += status.transactions;
        self.sum.rows += status.rows;
        self.sum.set_based += status.set_based;
        self.sum.replayed += status.replayed;
    }

    async fn assert_same(&self, seed: u64, table: &Table) {
        let sql = format!("select t::text from public.{} t order by t::text collate \"C\"", table.name);
        let rows =
            |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
        let blue = rows(self.scene.blue.query(&sql, &[]).await.unwrap());
        let green = rows(self.scene.green.query(&sql, &[]).await.unwrap());
        if blue == green {
            return;
        }
        let at = (0..).find(|at| blue.get(*at) != green.get(*at)).unwrap_or_default();
        panic!(
            "seed {seed}: {} has {} rows on blue and {} on green; the first that differ: {:?} and {:?}",
            table.name,
            blue.len(),
            green.len(),
            blue.get(at),
            green.get(at)
        );
    }
}

impl Table {
    /// None of its values is long.
    fn is_narrow(&self) -> bool {
        self.identity != Identity::Full
            && self.columns.iter().all(|column| !column.value("1").contains("repeat"))
    }
}

/// Runs transactions one after the other.
async fn write(url: String, history: Vec<String>) {
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for transaction in history {
        let ran = client.batch_execute(&transaction).await;
        ran.unwrap_or_else(|error| panic!("{transaction}: {error:?}"));
    }
    drop(client);
    let _ = connection.await;
}
