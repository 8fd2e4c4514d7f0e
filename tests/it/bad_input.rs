//! Bad input that only servers can tell: one clear error, its exit code, and nothing changed on either side.

use crate::support::{
    Broker, Pair, PgBouncer, cluster, installed,
    run::{Desk, Invocation, Output, migrate},
};
use migrate::{
    error::Kind,
    event::Deaf,
    journey::{
        gates,
        handover::RequestKind,
        session::{Brief, Session, Wish},
    },
    plan::{Plan, load},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio_postgres::Client;

/// A plan with all that can be out of reach.
const PLAN: &str = r#"version: 1
name: tokens
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue }
replicate: { tables: { include: ["public.*"] } }
cutover:
  pause_max: 5s
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const RULES: &str = r#"broker: { url: "${AMQP_URL}", allow_single_node: true }
revocations:
  - name: gone
    table: public.token
    when: { op: delete }
    key: [id]
    replay: { delete: public.token }
    valid: "select 1 from public.token where id = $1"
"#;

const SCHEMA: &str = "create table token (id int primary key, client int not null);
    insert into token select n, n % 7 from generate_series(1, 500) n";

/// Two sides, a pooler, and a plan on the desk.
struct Stage {
    desk: Desk,
    bouncer: PgBouncer,
    pair: Pair,
}

impl Stage {
    async fn set(name: &str) -> Stage {
        let pair = Pair::fresh(name).await;
        pair.blue().await.batch_execute(SCHEMA).await.unwrap();
        let stage = Stage { desk: Desk::new(name), bouncer: PgBouncer::start(&pair).await, pair };
        stage.desk.write("plan.yaml", PLAN);
        stage
    }

    /// A command on the plan, with every variable right.
    fn migrate(&self, args: &[&str]) -> Invocation {
        migrate(args)
            .within(self.desk.path())
            .env("BLUE_URL", self.pair.blue_url())
            .env("GREEN_URL", self.pair.green_url())
            .env("PGB_ADMIN", self.bouncer.admin_url())
            .env("PGB_CONFIG", self.bouncer.config_path())
            .env("PGB_TO", self.pair.green_target())
    }

    /// The same, without a process: a plan with every variable right.
    fn plan(&self, text: &str) -> Plan {
        let env = |name: &str| {
            Some(match name {
                "BLUE_URL" => self.pair.blue_url(),
                "GREEN_URL" => self.pair.green_url(),
                "PGB_ADMIN" => self.bouncer.admin_url(),
                "PGB_CONFIG" => self.bouncer.config_path().display().to_string(),
                _ => self.pair.green_target(),
            })
        };
        load::parse(text, "plan.yaml", &env).unwrap()
    }

    /// Everything somebody could have left behind, on both sides.
    async fn traces(&self) -> Vec<String> {
        let mut all = traces(&self.pair.blue().await).await;
        all.push("--- green".into());
        all.extend(traces(&self.pair.green().await).await);
        all
    }
}

/// Schemas, relations, slots, publications, triggers, functions and grants of a database.
async fn traces(client: &Client) -> Vec<String> {
    let sql = "
        select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
        union all select 'relation ' || oid::regclass from pg_class where relnamespace in (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
        union all select 'slot ' || slot_name from pg_replication_slots where database = current_database()
        union all select 'publication ' || pubname from pg_publication
        union all select 'trigger ' || tgname from pg_trigger where not tgisinternal
        union all select 'function ' || p.oid::regprocedure from pg_proc p where pronamespace in (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
        union all select 'grants ' || coalesce(datacl::text, 'none') from pg_database where datname = current_database()
        union all select 'setting ' || array_to_string(setconfig, ',') from pg_db_role_setting s join pg_database d on d.oid = setdatabase where datname = current_database()
        order by 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// `error:`, then causes, then a hint; the first line's text.
#[track_caller]
fn one_error(output: &Output) -> &str {
    // A question that `--yes` answers comes before.
    let said =
        output.stderr.lines().filter(|line| !line.starts_with("    ") && !line.ends_with("? yes (--yes)"));
    let lines: Vec<&str> = said.collect();
    let first = lines[0].strip_prefix("error: ");
    let Some(first) = first else { panic!("not an error first: {output:?}") };
    let rest_is = lines[1..].iter().all(|line| line.starts_with("  "));
    let hints = lines.iter().filter(|line| line.starts_with("  hint: ")).count();
    assert!(rest_is && hints == 1 && lines.last().unwrap().starts_with("  hint: "), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    first
}

#[tokio::test]
async fn a_side_that_does_not_let_us_in_is_named() {
    let stage = Stage::set("bad_sides").await;
    let before = stage.traces().await;
    let nobody = format!("postgresql://postgres@127.0.0.1:{}/db", installed::free_port().unwrap());
    let wrong = |url: String, server: &crate::support::cluster::Server| {
        url.replace(&server.password, "wrong-password")
    };
    let wrong_blue = wrong(stage.pair.blue_url(), stage.pair.blue_server());
    let wrong_green = wrong(stage.pair.green_url(), stage.pair.green_server());
    let missing = stage.pair.green_server().url("no_such_database");
    let cases = [
        ("BLUE_URL", nobody.as_str(), "no server listens at 127.0.0.1:"),
        ("GREEN_URL", nobody.as_str(), "no server listens at 127.0.0.1:"),
        ("BLUE_URL", wrong_blue.as_str(), "refuses the password"),
        ("GREEN_URL", wrong_green.as_str(), "refuses the password"),
        ("GREEN_URL", missing.as_str(), "database `no_such_database` does not exist"),
    ];
    for (variable, url, expected) in cases {
        for command in ["plan", "check", "replicate"] {
            let output = stage.migrate(&[command, "plan.yaml"]).env(variable, url).run().await.expect(1);
            let side = variable.trim_end_matches("_URL").to_lowercase();
            let what = one_error(&output);
            assert!(what.starts_with(&format!("{side}: ")) && what.contains(expected), "{command}: {what}");
            assert!(!output.stderr.contains("wrong-password"), "{}", output.stderr);
        }
    }
    let output = stage
        .migrate(&["--json", "replicate", "plan.yaml"])
        .env("GREEN_URL", &wrong_green)
        .run()
        .await
        .expect(1);
    let error: Value = serde_json::from_str(output.stderr.trim()).unwrap();
    assert_eq!(
        (&error["event"], &error["kind"], &error["exit_code"]),
        (&"error".into(), &"connect".into(), &1.into())
    );
    assert!(error["causes"][0].as_str().unwrap().contains("28P01"), "{error:#}");
    assert_eq!(stage.traces().await, before);
}

#[tokio::test]
async fn a_pooler_or_broker_that_does_not_answer_stops_before_anything_is_changed() {
    let stage = Stage::set("bad_outside").await;
    stage.desk.write("rules.yaml", &format!("{PLAN}{RULES}"));
    let before = stage.traces().await;
    let port = installed::free_port().unwrap();
    let no_pooler = format!("host=127.0.0.1 port={port} user=postgres dbname=pgbouncer");
    let no_broker = format!("amqp://u:hunter2@127.0.0.1:{port}/v");
    let broker = Broker::shared().await;
    for (plan, variable, value, code) in [
        ("plan.yaml", "PGB_ADMIN", &no_pooler, "ROUTE_UNREACHABLE"),
        ("rules.yaml", "AMQP_URL", &no_broker, "BROKER_UNREACHABLE"),
    ] {
        for command in ["check", "replicate"] {
            let run = stage.migrate(&[command, plan]).env("AMQP_URL", broker.url()).env(variable, value);
            let output = run.run().await.expect(3);
            assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
            if command == "check" {
                assert!(output.stdout.contains(&format!("blocking {code}\n")), "{}", output.stdout);
                assert!(output.stdout.contains("    help: "), "{}", output.stdout);
            } else {
                assert_eq!(one_error(&output), "1 of the checks stops us; nothing was changed");
                assert!(output.stderr.contains(&format!("\n    {code} at ")), "{}", output.stderr);
            }
        }
    }
    assert_eq!(stage.traces().await, before);
}

#[tokio::test]
async fn databases_that_are_not_fit_are_refused_by_name() {
    let stage = Stage::set("bad_databases").await;
    // The same database under another name.
    let before = stage.traces().await;
    let blue_again = stage.pair.blue_url().replace("127.0.0.1", "localhost");
    let same =
        |command: &'static str| stage.migrate(&[command, "plan.yaml"]).env("GREEN_URL", &blue_again).run();
    let shown = same("check").await.expect(3).stdout;
    assert!(shown.contains("blocking SAME_DATABASE\n"), "{shown}");
    let output = same("replicate").await.expect(3);
    assert!(one_error(&output).contains("of the checks stop us; nothing was changed"));
    assert!(output.stderr.contains("SAME_DATABASE at "), "{}", output.stderr);
    assert_eq!(stage.traces().await, before);

    stage.pair.blue().await.batch_execute("create table keyless (a int)").await.unwrap();
    stage.pair.green().await.batch_execute("create table token (id int primary key)").await.unwrap();
    let before = stage.traces().await;
    let output = stage.migrate(&["replicate", "plan.yaml"]).run().await.expect(3);
    assert_eq!(one_error(&output), "2 of the checks stop us; nothing was changed");
    for place in ["NO_IDENTITY at blue: public.keyless: ", "GREEN_NOT_EMPTY at green: "] {
        assert!(output.stderr.contains(place), "{}", output.stderr);
    }
    let shown = stage.migrate(&["check", "plan.yaml"]).run().await.expect(3).stdout;
    assert!(
        shown.ends_with("\n2 blocking findings\n") || shown.contains("\n2 blocking findings, "),
        "{shown}"
    );
    assert_eq!(stage.traces().await, before);
}

#[tokio::test]
async fn commands_that_come_too_early_or_with_an_edited_plan() {
    let stage = Stage::set("bad_order").await;
    let empty = stage.traces().await;
    for command in [
        &["cutover", "plan.yaml"][..],
        &["cutover", "plan.yaml", "--dry-run"],
        &["rollback", "plan.yaml"],
        // Nobody is asked about what is not there.
        &["rollback", "plan.yaml", "--all"],
        &["finish", "plan.yaml"],
    ] {
        let output = stage.migrate(command).run().await.expect(1);
        assert_eq!(one_error(&output), "the migration `tokens` has not begun", "{command:?}");
    }
    let output = stage.migrate(&["report", "plan.yaml"]).run().await.expect(1);
    assert_eq!(one_error(&output), "green holds no journal of the migration `tokens`");
    let shown = stage.migrate(&["status", "plan.yaml"]).run().await.expect(0).stdout;
    assert!(shown.starts_with("tokens: nothing has begun"), "{shown}");
    let output =
        stage.migrate(&["replicate", "plan.yaml", "--fingerprint", "0123456789abcdef"]).run().await.expect(3);
    assert!(one_error(&output).contains("0123456789abcdef was demanded"), "{}", output.stderr);
    assert_eq!(stage.traces().await, empty);

    // Begun, and cut before the copy.
    let run =
        stage.migrate(&["replicate", "plan.yaml"]).env("MIGRATE_FAIL_POINT", "replicate/copy-rows:started");
    run.run().await.expect(-1);
    let midway = stage.traces().await;
    assert_ne!(midway, empty);
    let output = stage.migrate(&["cutover", "plan.yaml"]).run().await.expect(3);
    assert!(one_error(&output).starts_with("`replicate` is not through: step "), "{}", output.stderr);
    let output = stage.migrate(&["finish", "plan.yaml"]).run().await.expect(1);
    assert_eq!(one_error(&output), "the cutover is not through, so there is nothing to finish");
    let output = stage.migrate(&["rollback", "plan.yaml", "--all"]).run().await.expect(1);
    assert!(one_error(&output).starts_with("nobody can be asked: Drop the copy"), "{}", output.stderr);
    assert_eq!(stage.traces().await, midway);

    stage.migrate(&["replicate", "plan.yaml", "--until-caught-up"]).run().await.expect(0);
    let copied = stage.traces().await;
    stage.desk.write("plan.yaml", &PLAN.replace("pause_max: 5s", "pause_max: 6s"));
    for command in [
        &["replicate", "plan.yaml"][..],
        &["cutover", "plan.yaml"],
        &["cutover", "plan.yaml", "--dry-run"],
        &["rollback", "plan.yaml"],
    ] {
        let output = stage.migrate(command).run().await.expect(1);
        let what = one_error(&output);
        assert!(
            what.starts_with("the plan was edited since it was pinned (fingerprint "),
            "{command:?}: {what}"
        );
    }
    assert_eq!(stage.traces().await, copied);

    // With the plan as it was, all goes.
    stage.desk.write("plan.yaml", PLAN);
    stage.migrate(&["--yes", "rollback", "plan.yaml", "--all"]).run().await.expect(0);
    assert_eq!(stage.traces().await, empty);
}

/// Green's table is locked, so whoever follows cannot catch up, and blue wrote on meanwhile.
#[tokio::test]
async fn a_cutover_while_green_is_far_behind_touches_no_client() {
    let stage = Stage::set("bad_lag").await;
    let plan = PLAN
        .replace("cutover:\n", "cutover:\n  gates: [ { lag_max: 1kB } ]\n")
        .replace("pause_max: 5s", "pause_max: 30s");
    stage.desk.write("plan.yaml", &plan);
    stage.migrate(&["replicate", "plan.yaml", "--until-caught-up"]).run().await.expect(0);
    let mut green = stage.pair.green().await;
    let lock = green.transaction().await.unwrap();
    lock.batch_execute("lock table token in share mode").await.unwrap();
    let more = "insert into token select n, 0 from generate_series(1000, 3000) n";
    stage.pair.blue().await.batch_execute(more).await.unwrap();
    let before = stage.traces().await;

    // The gate by itself, as it is looked at last before clients are held.
    let (plan, sql_files) = (stage.plan(&plan), Vec::new());
    let brief = Brief { plan, sql_files, after_copy: Vec::new(), fingerprint: None };
    let session = Session::open(brief, Wish::TakeOver(RequestKind::Cutover), Arc::new(Deaf)).await.unwrap();
    session.world.start_following().await.unwrap();
    let seen = gates::look(&session.world).await.unwrap();
    let refused = gates::refuse(&seen).unwrap_err();
    assert_eq!(refused.kind, Kind::Gate);
    assert!(refused.what.contains("\n  green is at most 1024 bytes of WAL behind: "), "{}", refused.what);
    session.close(Ok(())).await.unwrap();

    // The command waits for green, without holding anybody.
    let mut running = stage.migrate(&["cutover", "plan.yaml"]).start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running.has_ended());
    let client = cluster::connect(&stage.bouncer.app_url()).await.unwrap();
    client.simple_query("insert into token values (5000, 0)").await.unwrap();
    assert_eq!(stage.traces().await, before);
    drop(client);

    // Once green is there, it goes through.
    lock.rollback().await.unwrap();
    running.wait(Duration::from_secs(60)).await.expect(0);
    let row = green.query_one("select count(*) from token where id >= 1000", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2002);
}

#[tokio::test]
async fn a_cutover_that_nobody_would_follow_is_refused() {
    let stage = Stage::set("bad_route").await;
    let (head, _) = PLAN.split_once("  route:").unwrap();
    stage.desk.write("plan.yaml", head);
    stage.migrate(&["replicate", "plan.yaml", "--until-caught-up"]).run().await.expect(0);
    let before = stage.traces().await;
    for command in [&["cutover", "plan.yaml", "--dry-run"][..], &["cutover", "plan.yaml"]] {
        let output = stage.migrate(command).run().await.expect(1);
        assert_eq!(one_error(&output), "the plan names no route: nothing would send clients to green");
    }
    assert_eq!(stage.traces().await, before);
}
