//! `migrate apply` on live databases of the oldest and the newest major: under writers, killed at every boundary, and once
//! more after its end.

use crate::support::{
    Majors, Pair,
    busy::Busy,
    installed,
    run::{Desk, Invocation, Output, migrate},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const SCHEMA: &str = "
    create table t (id bigint generated always as identity primary key, a int, b text);
    insert into t (a, b) select n, 'row ' || n from generate_series(1, 20000) n;
    create index t_a on t (a);
    create unique index t_b on t (b);
    create table p (id bigint primary key, a int) partition by range (id);
    create table p1 partition of p for values from (0) to (5000);
    create table p2 partition of p for values from (5000) to (10000);
    insert into p select n, n from generate_series(0, 9999) n";

const FIRST: &str = "create index t_ab on t (a, b);
drop index t_b;
alter table t add column c int not null default 0;
";
const SECOND: &str = "drop index t_a;
create index t_a on t (a, id);
create index p_a on p (a);
alter table t alter column c set default 7;
";

const PLAN: &str =
    "version: 1\nname: ours\nkind: in_place\nblue: { url: \"${BLUE_URL}\" }\nschema: { sql: [sql/*.sql] }\n";

/// A database, and a plan for it on the desk.
struct Stage {
    desk: Desk,
    url: String,
}

impl Stage {
    fn new(url: String) -> Stage {
        let stage = Stage { desk: Desk::new("apply"), url };
        stage.desk.write("plan.yaml", PLAN);
        stage.desk.write("sql/01.sql", FIRST);
        stage.desk.write("sql/02.sql", SECOND);
        stage
    }

    fn migrate(&self, args: &[&str]) -> Invocation {
        migrate(args).within(self.desk.path()).env("BLUE_URL", &self.url)
    }

    /// `migrate apply`, which dies at a fail point. The servers may take a moment to see that the one before is dead.
    async fn apply(&self, fail_point: &str) -> Output {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let run = self.migrate(&["apply", "plan.yaml"]).env("MIGRATE_FAIL_POINT", fail_point);
            let output = run.run().await;
            if !output.stderr.contains("is at work on this migration") || Instant::now() > deadline {
                return output;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn client(&self) -> Client {
        crate::support::cluster::connect(&self.url).await.unwrap()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        self.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Waits until a query says so.
    async fn until(&self, sql: &str) {
        let client = self.client().await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "this did not come true: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn indexes(&self) -> Vec<String> {
        self.texts(
            "select pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' INVALID' end from pg_index
              where indrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace) order by 1",
        )
        .await
    }

    /// The ids of the steps, as `migrate plan` shows them.
    async fn steps(&self) -> Vec<String> {
        let shown = self.migrate(&["plan", "plan.yaml", "--format", "json"]).run().await.expect(0).json();
        let ids = shown["ddl"]["statements"].as_array().unwrap().iter();
        ids.map(|step| step["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Indexes as they are when all is applied.
const DONE: [&str; 9] = [
    "CREATE INDEX p1_p_a ON public.p1 USING btree (a)",
    "CREATE INDEX p2_p_a ON public.p2 USING btree (a)",
    "CREATE INDEX p_a ON ONLY public.p USING btree (a)",
    "CREATE INDEX t_a ON public.t USING btree (a, id)",
    "CREATE INDEX t_ab ON public.t USING btree (a, b)",
    "CREATE UNIQUE INDEX p1_pkey ON public.p1 USING btree (id)",
    "CREATE UNIQUE INDEX p2_pkey ON public.p2 USING btree (id)",
    "CREATE UNIQUE INDEX p_pkey ON ONLY public.p USING btree (id)",
    "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)",
];

async fn both(name: &str) -> (Pair, [Stage; 2]) {
    let pair = Pair::fresh(name).await;
    for client in [pair.blue().await, pair.green().await] {
        client.batch_execute(SCHEMA).await.unwrap();
    }
    let stages = [Stage::new(pair.blue_url()), Stage::new(pair.green_url())];
    (pair, stages)
}

fn write(count: i64) -> String {
    format!(
        "insert into t (a, b) values ({count}, 'new {count}'); update p set a = a + 1 where id = {}; select 1 from t where a = 7",
        count % 10_000
    )
}

#[tokio::test]
async fn writers_go_on_and_the_second_run_does_nothing() {
    let (_pair, stages) = both("apply_writers").await;
    for stage in &stages {
        let steps = stage.steps().await;
        let writer = Busy::begin(stage.client().await, write);
        let output = stage.migrate(&["apply", "plan.yaml"]).run().await.expect(0);
        let count = writer.end(Duration::from_secs(3)).await;
        assert!(output.stderr.contains(&format!("applied {} statements", steps.len())), "{}", output.stderr);
        assert_eq!(stage.indexes().await, DONE);
        let rows = stage.texts("select count(*)::text from t").await;
        assert_eq!(rows, [(20_000 + count).to_string()]);

        let journal = "select count(*)::text from migrate.journal";
        let before = stage.texts(journal).await;
        let output = stage.migrate(&["apply", "plan.yaml"]).run().await.expect(0);
        assert!(output.stderr.contains("an earlier run has applied all of it"), "{}", output.stderr);
        assert_eq!(stage.texts(journal).await, before);
    }
}

#[tokio::test]
async fn killed_at_every_boundary_it_finishes_exactly_once() {
    let (_pair, stages) = both("apply_killed").await;
    for (at, stage) in stages.iter().enumerate() {
        let steps = stage.steps().await;
        assert!(steps.len() >= 8, "{steps:?}");
        for (nth, step) in steps.iter().enumerate() {
            // Each boundary on one of the two majors, and the last step's effect stays unseen on both.
            let started = nth + 1 != steps.len() && (nth + at) % 2 == 0;
            let point = if started { "started" } else { "effected" };
            let output = stage.apply(&format!("{step}:{point}")).await;
            assert_eq!(output.code, -1, "{step}:{point}: {output:?}");
        }
        let shown = stage.migrate(&["status", "plan.yaml"]).run().await.expect(0).stdout;
        assert!(
            shown.starts_with("ours: not all is applied, and nobody is at work\nnext: migrate apply\n"),
            "{shown}"
        );
        assert!(shown.contains(&format!("{} of {} steps done", steps.len() - 1, steps.len())), "{shown}");
        stage.apply("none").await.expect(0);
        assert_eq!(stage.indexes().await, DONE);
        assert_eq!(stage.texts("select column_default from information_schema.columns where table_name = 't' and column_name = 'c'").await, ["7"]);

        let report = stage.migrate(&["report", "plan.yaml", "--format", "json"]).run().await.expect(0).json();
        let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
        for line in report["journal"].as_array().unwrap() {
            if line["event"] == "applied" {
                *applied.entry(line["step"].as_str().unwrap()).or_default() += 1;
            }
        }
        let once: BTreeMap<&str, usize> = steps.iter().map(|step| (step.as_str(), 1)).collect();
        assert_eq!(applied, once, "{report:#}");
    }
}

#[tokio::test]
async fn an_edited_file_is_refused_until_the_first_is_through() {
    let (_pair, stages) = both("apply_edited").await;
    let stage = &stages[1];
    let steps = stage.steps().await;
    let run =
        stage.migrate(&["apply", "plan.yaml"]).env("MIGRATE_FAIL_POINT", format!("{}:effected", steps[1]));
    run.run().await.expect(-1);
    let before = stage.indexes().await;
    stage.desk.write("sql/02.sql", "create index other on t (b);\n");
    let output = stage.migrate(&["apply", "plan.yaml"]).run().await.expect(1);
    assert!(
        output.stderr.starts_with("error: the plan was edited since it was pinned (fingerprint "),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("\n  hint: put the plan and its SQL back as they were"),
        "{}",
        output.stderr
    );
    assert_eq!(stage.indexes().await, before);
    let shown = stage.migrate(&["status", "plan.yaml"]).run().await.expect(0).stdout;
    assert!(shown.contains("the plan was edited since it was pinned"), "{shown}");
    let output = stage.migrate(&["finish", "plan.yaml"]).run().await.expect(1);
    assert!(output.stderr.starts_with("error: not all of the plan is applied"), "{}", output.stderr);

    stage.desk.write("sql/02.sql", SECOND);
    stage.apply("none").await.expect(0);
    assert_eq!(stage.indexes().await, DONE);

    // Then finish leaves nothing of ours, and another migration may begin.
    let output = stage.migrate(&["--yes", "finish", "plan.yaml"]).run().await.expect(0);
    assert!(output.stdout.starts_with("ours, attempt 1, fingerprint "), "{}", output.stdout);
    assert_eq!(
        stage.texts("select nspname::text from pg_namespace where nspname = 'migrate'").await,
        Vec::<String>::new()
    );
    stage.desk.write("next.yaml", &PLAN.replace("ours", "next").replace("sql/*.sql", "next.sql"));
    stage.desk.write("next.sql", "create index other on t (b);\n");
    stage.migrate(&["apply", "next.yaml"]).run().await.expect(0);
    assert!(stage.indexes().await.contains(&"CREATE INDEX other ON public.t USING btree (b)".to_owned()));
}

#[tokio::test]
async fn a_statement_without_an_online_form_stops_before_anything_is_changed() {
    let (_pair, stages) = both("apply_findings").await;
    let stage = &stages[0];
    stage.desk.write("sql/02.sql", "alter table t alter column a type bigint;\n");
    let before = stage.indexes().await;
    stage.migrate(&["plan", "plan.yaml"]).run().await.expect(3);
    let output = stage.migrate(&["apply", "plan.yaml"]).run().await.expect(3);
    assert!(
        output.stderr.starts_with("error: 1 of the checks stops us; nothing was changed\n"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains(" at sql/02.sql:1:1: "), "{}", output.stderr);
    assert_eq!(stage.indexes().await, before);
    assert_eq!(
        stage.texts("select nspname::text from pg_namespace where nspname = 'migrate'").await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn the_shipped_plan_runs_on_its_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = fs::read_to_string(root.join("tests/fixtures/hydra/schema_1x.sql")).unwrap();
    let pair = Pair::fresh("apply_hydra").await;
    let plan = root.join("plans/hydra-1x-in-place.yaml").display().to_string();
    for url in [pair.blue_url(), pair.green_url()] {
        let client = crate::support::cluster::connect(&url).await.unwrap();
        client.batch_execute(&fixture).await.unwrap();
        let run = |args: &[&str]| migrate(args).env("BLUE_URL", &url).run();
        let shown: Value = run(&["plan", &plan, "--format", "json"]).await.expect(0).json();
        assert!(!shown.to_string().contains("\"blocking\""), "{shown:#}");
        run(&["apply", &plan]).await.expect(0);
        let gap: i64 =
            client.query_one("select count(*) from pg_index where not indisvalid", &[]).await.unwrap().get(0);
        assert_eq!(gap, 0);
        let definition: String = client
            .query_one("select pg_get_indexdef('hydra_oauth2_access_request_id_idx'::regclass)", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(
            definition,
            "CREATE INDEX hydra_oauth2_access_request_id_idx ON public.hydra_oauth2_access USING btree (request_id)"
        );
        let output = run(&["apply", &plan]).await.expect(0);
        assert!(output.stderr.contains("an earlier run has applied all of it"), "{}", output.stderr);
    }
}

/// Surprise 10 of the catalogue: a build waits for every transaction, and so for one that waits for a lock that the builder
/// holds. Nobody ever waits for a lock of ours: a second run is told at once that there is a first one.
#[tokio::test]
async fn a_second_run_is_refused_at_once_and_so_a_build_does_not_wait_for_it() {
    let (_pair, stages) = both("apply_twice").await;
    for stage in &stages {
        let (holder, waiter) = (stage.client().await, stage.client().await);
        holder.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let waits = tokio::spawn(async move {
            waiter.batch_execute("set deadlock_timeout = '1min'; select pg_advisory_lock(1)").await
        });
        stage.until("select exists (select from pg_locks where locktype = 'advisory' and not granted)").await;
        let error = holder.batch_execute("create index concurrently t_x on t (a)").await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "{error:?}");
        holder.batch_execute("select pg_advisory_unlock(1); drop index t_x").await.unwrap();
        waits.await.unwrap().unwrap();

        let writer = stage.client().await;
        writer.batch_execute("begin; update t set a = a where id = 1").await.unwrap();
        let (first, second) = tokio::join!(stage.migrate(&["apply", "plan.yaml"]).run(), async {
            let builds = "select exists (select from pg_stat_activity where query ilike 'create index concurrently%' and wait_event_type = 'Lock')";
            stage.until(builds).await;
            let second = stage.migrate(&["apply", "plan.yaml"]).run().await;
            let behind = "select w.query from pg_stat_activity w join pg_stat_activity ours on ours.pid = any (pg_blocking_pids(w.pid)) where ours.application_name like 'migrate%'";
            assert_eq!(stage.texts(behind).await, Vec::<String>::new());
            writer.batch_execute("commit").await.unwrap();
            second
        });
        assert_ne!(second.code, 0);
        assert!(second.stderr.contains("is at work on this migration"), "{}", second.stderr);
        let first = first.expect(0);
        assert!(first.stderr.contains("waited"), "{}", first.stderr);
    }
}

/// One statement of each kind of step, under settings without which it means or makes something else.
const UNDER_SETTINGS: &str = "
set timezone = 'Asia/Tokyo';
set app.who = 'apply';
set default_tablespace = pg_default;
set check_function_bodies = off;
create function later() returns int language sql as 'select n from comes_later';
alter table t add column since timestamptz not null default '2026-01-01 00:00:00';
create index t_since on t (since);
update t set b = current_setting('app.who') || id where a % 2 = 0;
begin;
set local app.who = 'inside';
alter table t add column d text default current_setting('app.who');
commit;
reset timezone;
alter table t add column zone text default current_setting('timezone');
";

#[tokio::test]
async fn settings_of_a_file_reach_every_statement_after_them() {
    let (_pair, stages) = both("apply_settings").await;
    for stage in &stages {
        stage.desk.write("sql/01.sql", UNDER_SETTINGS);
        stage.desk.write(
            "sql/02.sql",
            "alter table t add column who text default current_setting('app.who', true);\n",
        );
        stage.client().await.batch_execute("drop index t_a").await.unwrap();
        let pg_dump = installed::pg_dump_bin(Majors::NEWEST).unwrap().join("pg_dump");
        stage.migrate(&["rehearse", "plan.yaml"]).env("MIGRATE_PG_DUMP", pg_dump).run().await.expect(0);
        stage.migrate(&["apply", "plan.yaml"]).run().await.expect(0);
        let told = stage
            .texts(
                "select concat_ws(' ', since at time zone 'UTC', d, zone <> 'Asia/Tokyo', coalesce(who, 'nobody'), b = 'apply' || id)
                   from t where id in (1, 2) order by id",
            )
            .await;
        let day = "2025-12-31 15:00:00 inside t nobody";
        assert_eq!(told, [format!("{day} f"), format!("{day} t")]);
    }
}
