//! Two sides with a few tables, a pooler, and a plan on the desk.

use crate::support::run::{Desk, Invocation, Output, Running, migrate};
use crate::support::{Pair, PgBouncer};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub const PLAN: &str = r#"version: 1
name: journey
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue }
replicate: { tables: { include: ["public.*"] } }
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const SCHEMA: &str = "create table p1 (id bigserial primary key, note text not null);
    create table p2 (id int primary key, note text);
    insert into p1 (note) select 'n' || n from generate_series(1, 500) n;
    insert into p2 select n, 'n' || n from generate_series(1, 500) n;";

pub struct Stage {
    pub desk: Desk,
    pub bouncer: PgBouncer,
    pub pair: Pair,
}

impl Stage {
    pub async fn set(name: &str) -> Stage {
        Stage::on(name, Pair::fresh(name).await).await
    }

    pub async fn on(name: &str, pair: Pair) -> Stage {
        pair.blue().await.batch_execute(SCHEMA).await.unwrap();
        let stage = Stage { desk: Desk::new(name), bouncer: PgBouncer::start(&pair).await, pair };
        stage.desk.write("plan.yaml", PLAN);
        stage
    }

    /// As [`Stage::set`], and green has caught up; nobody follows.
    pub async fn caught_up(name: &str) -> Stage {
        let stage = Stage::set(name).await;
        stage.run("replicate", &["--until-caught-up"]).await.expect(0);
        stage
    }

    pub fn prepare(&self, command: &str, more: &[&str]) -> Invocation {
        let mut args = vec![command, "plan.yaml"];
        args.extend(more);
        migrate(&args)
            .within(self.desk.path())
            .env("BLUE_URL", self.pair.blue_url())
            .env("GREEN_URL", self.pair.green_url())
            .env("PGB_ADMIN", self.bouncer.admin_url())
            .env("PGB_CONFIG", self.bouncer.config_path())
            .env("PGB_TO", self.pair.green_target())
    }

    pub async fn run(&self, command: &str, more: &[&str]) -> Output {
        self.prepare(command, more).run().await
    }

    /// Starts `replicate`, and waits until green follows.
    pub async fn following(&self) -> Running {
        let replicate = self.prepare("replicate", &[]).start();
        self.follows().await;
        replicate
    }

    /// Waits until green follows.
    pub async fn follows(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.run("status", &["--format", "json"]).await;
            if status.code == 0 && status.json()["caught_up"] == true {
                return;
            }
            assert!(Instant::now() < until, "green does not follow: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn on_blue(&self, sql: &str) {
        self.pair.blue().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub async fn on_green(&self, sql: &str) {
        self.pair.green().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of a query's one row, on green, as text.
    pub async fn ask_green(&self, sql: &str) -> String {
        let green = self.pair.green().await;
        let sql = format!("select ({sql})::text");
        green.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// Waits until the journal's newest entry is of this step.
    pub async fn comes_to(&self, step: &str) {
        let until = Instant::now() + PATIENCE;
        while self
            .ask_green("coalesce((select step from migrate.journal order by seq desc limit 1), '')")
            .await
            != step
        {
            assert!(Instant::now() < until, "it does not come to {step}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
