//! `mode: snapshot`: a copy of one moment of blue, changed by the vendor's SQL.

use super::stage::{PATIENCE, Stage};
use crate::support::Broker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const PLAN: &str = r#"version: 1
name: journey
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue, after_copy: ["vendor/*.sql"] }
replicate: { mode: snapshot, tables: { include: ["public.*"] } }
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

/// One table gets another column, and of two comes a third.
const RESHAPES: &str =
    "alter table tally add column runs int not null default 0; alter table p1 add column head text;
    update p1 set head = left(note, 1);
    create table notes as select 'p1' as origin, id, note from p1 union all select 'p2', id, note from p2;
    alter table notes add primary key (origin, id); drop table p2; alter table daughter rename to child;";

/// Run twice, it would show.
const COUNTS: &str = "begin; update tally set runs = runs + 1; delete from p1 where id % 10 = 0; commit;";

/// Writes transactions of which each tells its number in three tables, so that the state after any number of them is known.
struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    async fn start(stage: &Stage) -> Writer {
        stage
            .on_blue("create table step (n bigint primary key); create table tally (id int primary key, n bigint not null); insert into tally values (1, 0); create table mother (id int primary key); create table daughter (id int primary key, mother int references mother)")
            .await;
        let (blue, stop) = (stage.pair.blue().await, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            for n in 1_i64.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let write = format!(
                    "begin; insert into step values ({n}); update p2 set note = 'k{n}' where id = {n} % 500 + 1;
                     update tally set n = {n}; commit"
                );
                blue.batch_execute(&write).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        Writer { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

async fn refused_writes(stage: &Stage, sql: &str) {
    let error = stage.pair.green().await.batch_execute(sql).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("25006"), "{sql}: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_sql_runs_once_on_a_copy_of_one_moment() {
    let stage = Stage::set("snapshot").await;
    stage.desk.write("plan.yaml", PLAN);
    stage.desk.write("vendor/1.sql", RESHAPES);
    stage.desk.write("vendor/2.sql", "create index concurrently i on notes (note)");
    let writer = Writer::start(&stage).await;
    let unfit = stage.run("plan", &["--offline"]).await.expect(3);
    assert!(unfit.stdout.contains("NO_TRANSACTION"), "{}", unfit.stdout);
    stage.desk.write("vendor/2.sql", COUNTS);

    let plan = stage.run("plan", &["--format", "json", "--save-facts", "facts.json"]).await.expect(0).json();
    let tables = plan["lost_writes"]["tables"].as_array().unwrap();
    let of = |name: &str| tables.iter().find(|table| table["table"] == name).unwrap();
    for busy in ["public.step", "public.tally", "public.p2"] {
        assert!(of(busy)["per_minute_now"].as_f64().unwrap() > 0.0, "{plan:#}");
    }
    assert_eq!(of("public.p1")["per_minute_now"], 0.0);
    let text = stage.run("plan", &["--facts", "facts.json"]).await.expect(0).stdout;
    for part in
        ["WRITES_NOT_CARRIED", "a minute on table public.", "replicate/take-moment", "lost: what blue writes"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = stage.run("plan", &["--facts", "facts.json", "--format", "markdown"]).await.expect(0).stdout;
    assert!(page.contains("### lost"), "{page}");

    for point in ["moment:taken", "after-copy-2:ran"] {
        let dies = stage.prepare("replicate", &[]).env("MIGRATE_FAIL_POINT", point);
        assert_eq!(dies.run().await.signal, Some(9), "{point}");
    }
    assert_eq!(stage.ask_green("select runs from tally").await, "0", "nothing of the file was kept");
    let done = stage.run("replicate", &[]).await.expect(0);
    assert!(done.stderr.contains("nothing is carried after it"), "{}", done.stderr);
    // All is found as it was left, though tables are gone.
    stage.run("replicate", &[]).await.expect(0);

    let n: i64 = stage.ask_green("select n from tally").await.parse().unwrap();
    assert_eq!(stage.ask_green("select runs from tally").await, "1");
    assert_eq!(stage.ask_green("select count(*) || ' ' || max(n) from step").await, format!("{n} {n}"));
    let expected = format!(
        "select string_agg(note, ',' order by id) from (select id, coalesce(
             (select 'k' || max(j) from generate_series(1, {n}) j where j % 500 + 1 = id), 'n' || id) as note
         from generate_series(1, 500) id) was"
    );
    assert_eq!(
        stage.ask_green("select string_agg(note, ',' order by id) from notes where origin = 'p2'").await,
        stage.ask_green(&expected).await
    );
    assert_eq!(
        stage.ask_green("select count(*) filter (where head = 'n') || ' ' || count(*) from p1").await,
        "450 450"
    );
    for write in ["insert into p1 (note) values ('x')", "delete from notes", "truncate step"] {
        refused_writes(&stage, write).await;
    }
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    let kept: i64 = stage.pair.blue().await.query_one(slots, &[]).await.unwrap().get(0);
    assert_eq!(kept, 0, "blue keeps WAL for nobody");

    writer.end().await;
    let until = Instant::now() + PATIENCE;
    loop {
        let status = stage.run("status", &["--format", "json"]).await.expect(0).json();
        let written = status["moment"]["written_since"].as_array().unwrap();
        if written
            .iter()
            .any(|table| table["table"] == "public.step" && table["writes"]["inserted"].as_u64() > Some(0))
        {
            break;
        }
        assert!(Instant::now() < until, "{status:#}");
    }

    stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    let left = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(stage.ask_green(left).await, "0");
}

/// Tables and views of the clone come to hang on what this makes.
const TIES: &str = "create table whole (id int not null, note text) partition by range (id);
    alter table whole attach partition p2 for values from (minvalue) to (maxvalue);
    create view upon as select id from p1; create or replace view seen as select id from upon;
    create function word() returns text language sql as $$ select 'w' $$; alter table p1 alter note set default word();";

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_on_the_vendors_objects_is_taken_back_with_them_and_nobody_elses() {
    let stage = Stage::set("snapshot_ties").await;
    stage.desk.write("plan.yaml", PLAN);
    stage.desk.write("vendor/1.sql", TIES);
    stage.on_blue("create view seen as select id from p1").await;
    stage.on_green("create schema theirs; create table theirs.kept (id int)").await;
    stage.run("replicate", &[]).await.expect(0);
    stage.on_green("create view theirs.upon as select id from whole").await;

    let refused = stage.run("rollback", &["--all", "--yes"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("theirs.upon"), "{}", refused.stderr);
    assert_eq!(stage.ask_green("select count(*) from whole").await, "500", "nothing was dropped");
    stage.on_green("drop view theirs.upon").await;
    stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    let left = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(stage.ask_green(left).await, "0");
    assert_eq!(stage.ask_green("select count(*) from theirs.kept").await, "0", "it is still there");
}

const RULES_PLAN: &str = r#"version: 1
name: NAME
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
broker: { url: "${AMQP_URL}", allow_single_node: true }
schema: { from: blue, after_copy: ["vendor/*.sql"] }
replicate: { mode: snapshot, tables: { include: ["public.*"] } }
revocations:
  - name: token-revoked
    table: public.token
    when: { op: update, old: "active", new: "not active" }
    key: [id]
    replay: { update: { table: public.access_token, set: { active: "false" } } }
    valid: "select 1 from public.access_token where id = $1 and active"
  - name: login-ended
    table: public.login
    when: { op: delete }
    key: [id]
    replay: { delete: public.login }
    valid: "select 1 from public.login where id = $1"
  - name: consent-revoked
    table: public.consent_request
    when: { op: delete }
    key: [challenge]
    replay: { delete: public.flow }
    valid: "select 1 from public.flow where challenge = $1"
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const TOKENS: &str = "create table login (id text primary key); create table token (id text primary key, active bool not null);
    create table consent (id int primary key, login text references login on delete cascade); create sequence odd;
    insert into login select 'l' || n from generate_series(1, 20) n; insert into token select 't' || n, true from generate_series(1, 2000) n;
    insert into consent select n, 'l' || n from generate_series(1, 20) n; update token set active = false where id = 't1999'";

/// What the SQL of `plans/snapshot.yaml` is for.
const CONSENTS: &str = "create table login_request (challenge text primary key, subject text not null);
    create table consent_request (challenge text primary key, login_challenge text references login_request on delete cascade, granted_scope text);
    create table refresh_token (signature text primary key, challenge text references consent_request on delete cascade, active bool not null);
    insert into login_request select 'log' || n, 's' || n from generate_series(1, 9) n; insert into consent_request select 'con' || n, 'log' || n, 'a|b' from generate_series(1, 8) n;
    insert into refresh_token select 'sig' || n, 'con' || n, true from generate_series(1, 8) n";

const RENAMES: &str = "alter table token rename to access_token; alter table access_token add column kind text not null default 'opaque';
    drop sequence odd; drop table p2; insert into p1 (note) select 'vendor' from generate_series(1, 2000);";

/// Clients that revoke one token after another, through the pooler, and on whatever it leads to.
struct Revokers {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Revokers {
    async fn start(stage: &Stage) -> Revokers {
        let client = crate::support::cluster::connect(&stage.bouncer.app_url()).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut revoked = Vec::new();
            for n in 100.. {
                if stopped.load(Ordering::SeqCst) || n == 1900 {
                    break;
                }
                let id = format!("t{n}");
                // On green the table has another name.
                for table in ["token", "access_token"] {
                    let sql = format!("update public.{table} set active = false where id = '{id}'");
                    if client.batch_execute(&sql).await.is_ok() {
                        revoked.push(id);
                        break;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            revoked
        });
        Revokers { stop, task }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// What blue holds revoked, and green does not.
async fn still_valid(stage: &Stage) -> Vec<String> {
    let texts = async |client: tokio_postgres::Client, sql: &str| -> Vec<String> {
        client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let revoked = texts(stage.pair.blue().await, "select id from token where not active").await;
    let ended = texts(
        stage.pair.blue().await,
        "select 'l' || n from generate_series(1, 20) n except select id from login",
    )
    .await;
    let mut valid = texts(stage.pair.green().await, "select id from access_token where active").await;
    valid.retain(|id| revoked.contains(id));
    let mut logins =
        texts(stage.pair.green().await, "select id from login union all select login from consent").await;
    logins.retain(|id| ended.contains(id));
    valid.extend(logins);
    valid
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_after_the_moment_are_effective_before_green_opens() {
    let stage = Stage::set("snapshot_rules").await;
    let broker = Broker::shared().await;
    let plan = RULES_PLAN.replace("NAME", &format!("snapshot-{:08x}", rand::random::<u32>()));
    stage.desk.write("plan.yaml", &plan);
    stage.desk.write("vendor/1.sql", RENAMES);
    stage.desk.write("vendor/2.sql", include_str!("../../../plans/sql/snapshot/01_flow.sql"));
    stage.desk.write("vendor/3.sql", include_str!("../../../plans/sql/snapshot/02_tokens.sql"));
    stage.on_blue(TOKENS).await;
    stage.on_blue(CONSENTS).await;
    let prepare = |command: &str, more: &[&str]| stage.prepare(command, more).env("AMQP_URL", broker.url());
    let early = prepare("cutover", &[]).run().await;
    assert_ne!(early.code, 0, "{early:?}");

    prepare("replicate", &["--until-caught-up"]).run().await.expect(0);
    let slots =
        "select string_agg(slot_name, ' ') from pg_replication_slots where database = current_database()";
    let kept: String = stage.pair.blue().await.query_one(slots, &[]).await.unwrap().get(0);
    assert!(kept.ends_with("_capture") && !kept.contains(' '), "the revocations' slot alone is left: {kept}");
    assert_eq!(
        stage
            .ask_green(
                "select string_agg(challenge, ',' order by challenge) || min(granted_scope::text) from flow"
            )
            .await,
        r#"con1,con2,con3,con4,con5,con6,con7,con8["a", "b"]"#
    );
    // After the moment: revoked, ended with what hangs on it, issued and revoked, and issued: the last is lost.
    stage.on_blue("update token set active = false where id in ('t1', 't2'); delete from login where id in ('l1', 'l2'); delete from consent_request where challenge = 'con4';
        insert into token values ('new1', true), ('new2', true); update token set active = false where id = 'new1'; insert into p1 (note) select 'late' from generate_series(1, 50)").await;
    let replicate = prepare("replicate", &[]).start();
    let revokers = Revokers::start(&stage).await;
    let dry = prepare("cutover", &["--dry-run"]).run().await.expect(0);
    assert!(format!("{}{}", dry.stdout, dry.stderr).contains("is lost"), "{dry:?}");

    // The queue is worked off, and more is revoked before clients are held. Called off at the last moment, with everything
    // as before; what was revoked stays so.
    let mut dying = prepare("cutover", &[])
        .env("MIGRATE_SLEEP_POINT", "switch/pause-clients:planned")
        .env("MIGRATE_FAIL_POINT", "opening:before")
        .start();
    dying.falls_asleep().await;
    stage.on_blue("update token set active = false where id = 't4'; delete from login where id = 'l4'; delete from consent_request where challenge = 'con5'").await;
    dying.signal(rustix::process::Signal::CONT);
    let dies = dying.wait(PATIENCE).await;
    assert_eq!(dies.signal, Some(9), "{dies:?}");
    replicate.wait(PATIENCE).await.expect(0);
    assert_eq!(still_valid(&stage).await, [""; 0]);
    prepare("rollback", &[]).run().await.expect(0);
    stage.on_blue("update token set active = false where id = 't3'; delete from login where id = 'l3'").await;

    // Killed with the replay done and not written down, it goes on from there; and once more when clients are served again.
    let dies = prepare("cutover", &[]).env("MIGRATE_FAIL_POINT", "switch/replay-revocations:effected");
    assert_eq!(dies.run().await.signal, Some(9));
    let mut cutover = prepare("cutover", &[])
        .env("MIGRATE_SLEEP_POINT", "opening:before")
        .env("MIGRATE_FAIL_POINT", "settle/count-lost:effected")
        .start();
    cutover.falls_asleep().await;
    assert_eq!(still_valid(&stage).await, [""; 0], "before green is open");
    refused_writes(&stage, "delete from access_token").await;
    cutover.signal(rustix::process::Signal::CONT);
    let done = cutover.wait(PATIENCE).await;
    assert_eq!(done.signal, Some(9), "{done:?}");
    prepare("cutover", &[]).run().await.expect(0);

    // Numbers go on beyond blue's and beyond those that the vendor's SQL took.
    stage
        .on_green("insert into access_token values ('after', true); insert into p1 (note) values ('after')")
        .await;
    let revoked = revokers.end().await;
    assert!(revoked.len() > 20, "{revoked:?}");
    assert_eq!(still_valid(&stage).await, [""; 0]);
    let list = revoked.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let back = format!("select count(*) from access_token where active and id in ({list})");
    assert_eq!(stage.ask_green(&back).await, "0", "none comes back");
    assert_eq!(
        stage
            .ask_green(
                "select count(*) filter (where signature in ('sig4', 'sig5')) || ' ' || count(*) from refresh_token"
            )
            .await,
        "0 6"
    );
    // Green has the moment and what was revoked, not what was issued.
    assert_eq!(stage.ask_green("select count(*) from access_token where id like 'new%'").await, "0");
    assert_eq!(
        stage
            .ask_green("select count(*) filter (where note = 'late') || ' ' || count(*) filter (where note = 'vendor') from p1")
            .await,
        "0 2000"
    );
    let report = prepare("report", &["--format", "json"]).run().await.expect(0).json();
    assert_eq!(report["revocations"]["still_valid"], 0);
    assert_eq!(report["fence"]["sequences_left_out"], serde_json::json!(["public.odd"]));
    assert!(report["revocations"]["acted"].as_u64() > Some(4), "{report:#}");
    let lost = report["lost"]["tables"].as_array().unwrap();
    let late = lost.iter().find(|table| table["table"] == "public.p1").unwrap();
    assert_eq!(late["writes"]["inserted"], 50, "{report:#}");
    prepare("finish", &["--yes"]).run().await.expect(0);
    assert_eq!(stage.ask_green("select count(*) from pg_trigger where tgname = 'migrate_gate'").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_a_table_that_blues_gate_is_not_on_is_refused() {
    let stage = Stage::set("snapshot_ungated").await;
    stage.on_blue(TOKENS).await;
    let narrow = r#"["public.*"], exclude: ["public.login", "public.consent"]"#;
    stage.desk.write("plan.yaml", &RULES_PLAN.replace("NAME", "ungated").replace(r#"["public.*"]"#, narrow));
    stage.desk.write("vendor/1.sql", RENAMES);
    for command in ["plan", "check"] {
        let refused = stage.prepare(command, &[]).env("AMQP_URL", "amqp://127.0.0.1:1").run().await.expect(3);
        let text = format!("{}{}", refused.stdout, refused.stderr);
        assert!(text.contains("REVOCATION_UNGATED"), "{text}");
        assert!(text.contains("rule `login-ended` is about table public.login"), "{text}");
        assert!(!text.contains("rule `token-revoked` is about"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_ledger_is_proved_before_clients_are_held() {
    let stage = Stage::set("snapshot_ledger").await;
    let broker = Broker::shared().await;
    let plan = RULES_PLAN.replace("NAME", &format!("ledger-{:08x}", rand::random::<u32>()));
    stage.desk.write("plan.yaml", &plan);
    stage.desk.write("vendor/1.sql", RENAMES);
    stage.desk.write("vendor/2.sql", "alter table consent_request rename to flow");
    stage.on_blue(TOKENS).await;
    stage.on_blue(CONSENTS).await;
    let prepare = |command: &str, more: &[&str]| stage.prepare(command, more).env("AMQP_URL", broker.url());
    prepare("replicate", &["--until-caught-up"]).run().await.expect(0);
    stage.on_blue("update token set active = false where id <> 't1999'").await;
    let mut cutover =
        prepare("cutover", &[]).env("MIGRATE_SLEEP_POINT", "switch/pause-clients:planned").start();
    cutover.falls_asleep().await;
    // What the broker had given out, and nobody had read, is left for the pause.
    let early: u64 = stage.ask_green("select count(*) from migrate.revocation").await.parse().unwrap();
    assert!(early >= 1500, "{early}");
    stage.on_blue("delete from login where id in ('l1', 'l2'); delete from consent_request where challenge = 'con4'").await;
    cutover.signal(rustix::process::Signal::CONT);
    let done = cutover.wait(PATIENCE).await.expect(0);
    let says = format!("{early} revocations are proved on green before clients are held");
    assert!(done.stderr.contains(&says), "{}", done.stderr);
    assert_eq!(still_valid(&stage).await, [""; 0]);
    let proved = |step: &str| {
        format!(
            "select string_agg(note->>'proved', ' ') from migrate.journal where step = '{step}' and note ? 'proved'"
        )
    };
    let (in_pause, after) = ("switch/replay-revocations", "settle/replay-revocations");
    assert_eq!(stage.ask_green(&proved(in_pause)).await, (2002 - early).to_string(), "those since");
    assert_eq!(stage.ask_green(&proved(after)).await, "2002", "and all of them after it");
}
