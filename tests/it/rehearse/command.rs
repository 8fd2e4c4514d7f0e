//! The command: its scratch database from beginning to end.

use crate::support::{
    Majors, Pair, installed,
    run::{Desk, Invocation, migrate},
};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

pub(super) const PLAN: &str =
    "version: 1\nname: ours\nkind: in_place\nblue: { url: \"${BLUE_URL}\" }\nschema: { sql: [sql/*.sql] }\n";

const SCHEMA: &str = "
    create role rehearse_owner;
    create table r (id bigint primary key);
    create table t (id bigint generated always as identity primary key, a int, b text, r_id bigint);
    alter table t owner to rehearse_owner;
    create index t_a on t (a);
    create table p (id bigint, a int, primary key (id)) partition by range (id);
    create table p1 partition of p for values from (0) to (10000);
    insert into t (a, b) values (1, 'x')";

const FILES: &str = "
create index t_ab on t (a, b);
drop index t_a;
create index t_a on t (a, id);
alter table t add column c int not null default 0;
alter table t add constraint k foreign key (r_id) references r;
create index p_a on p (a);
create table n (id int primary key, t_id bigint references t);
alter table n add column m int unique;
";

/// A database, and a plan for it on the desk.
pub(super) struct Stage {
    pub desk: Desk,
    pub url: String,
}

impl Stage {
    pub async fn new(url: String, schema: &str, sql: &str) -> Stage {
        let stage = Stage { desk: Desk::new("rehearse"), url };
        stage.desk.write("plan.yaml", PLAN);
        stage.desk.write("sql/01.sql", sql);
        let client = stage.client().await;
        client.batch_execute("drop role if exists rehearse_owner").await.unwrap();
        client.batch_execute(schema).await.unwrap();
        stage
    }

    pub fn rehearse(&self, args: &[&str]) -> Invocation {
        let args: Vec<&str> = ["rehearse", "plan.yaml"].into_iter().chain(args.iter().copied()).collect();
        let pg_dump = installed::pg_dump_bin(Majors::NEWEST).expect("a pg_dump").join("pg_dump");
        migrate(&args).within(self.desk.path()).env("BLUE_URL", &self.url).env("MIGRATE_PG_DUMP", pg_dump)
    }

    pub async fn client(&self) -> Client {
        crate::support::cluster::connect(&self.url).await.unwrap()
    }

    /// The scratch databases that are there.
    pub async fn scratch(&self) -> Vec<String> {
        let rows = self
            .client()
            .await
            .query(
                "select datname::text from pg_database where datname ~ '^migrate_rehearsal' order by 1",
                &[],
            )
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn until(&self, what: &str, there: bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while self.scratch().await.is_empty() == there {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.client()
            .await
            .batch_execute("drop owned by rehearse_owner; drop role rehearse_owner")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_rewritten_list_passes_and_nothing_is_left() {
    let pair = Pair::fresh("rehearse_pass").await;
    for url in [pair.blue_url(), pair.green_url()] {
        let stage = Stage::new(url, SCHEMA, FILES).await;
        let before: i64 = one(&stage, "select count(*) from pg_class").await;
        let report = stage.rehearse(&["--json"]).run().await.expect(0).json();
        let statements = report["statements"].as_array().unwrap();
        assert!(statements.len() >= 10, "{statements:#?}");
        for statement in statements {
            assert_eq!(statement["verdict"], "pass", "{statement:#}");
        }
        let built = statements.iter().filter(|one| one["measured"]["built"][0].is_string()).count();
        assert!(built >= 3, "{built} builds were seen");
        assert_eq!(stage.scratch().await, Vec::<String>::new());
        // Blue is as it was.
        assert_eq!(one(&stage, "select count(*) from pg_class").await, before);

        let text = stage.rehearse(&[]).run().await.expect(0).stdout;
        assert!(text.contains("ACCESS EXCLUSIVE") && text.contains("pass"), "{text}");
        // The password is in no output.
        assert!(!text.contains(&pair.blue_server().password), "{text}");
        stage.end().await;
    }
}

async fn one(stage: &Stage, sql: &str) -> i64 {
    stage.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_that_is_refused_ends_the_rehearsal_with_its_place() {
    let pair = Pair::fresh("rehearse_refused").await;
    let sql = "alter table t add column c int;\nalter table t add constraint k check (nowhere > 0) not valid;\nalter table t add column d int;";
    let stage = Stage::new(pair.blue_url(), SCHEMA, sql).await;
    let output = stage.rehearse(&["--json"]).run().await.expect(3);
    let report = output.json();
    let verdicts: Vec<&str> =
        report["statements"].as_array().unwrap().iter().map(|one| one["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts[0], "pass");
    assert!(verdicts.contains(&"refused") && verdicts.last() == Some(&"not_run"), "{verdicts:?}");
    let finding =
        report["findings"].as_array().unwrap().iter().find(|one| one["code"] == "REHEARSAL_REFUSED");
    let finding = finding.expect("it is told");
    assert_eq!(finding["place"]["line"], 2, "{finding}");
    assert!(finding["what"].as_str().unwrap().contains("42703"), "{finding}");
    assert_eq!(stage.scratch().await, Vec::<String>::new());
    stage.end().await;
}

#[tokio::test]
async fn killed_it_leaves_nothing() {
    let pair = Pair::fresh("rehearse_killed").await;
    let stage = Stage::new(pair.blue_url(), SCHEMA, FILES).await;
    // As soon as it can be seen, and a little later.
    for later_ms in [0, 300] {
        let running = stage.rehearse(&[]).start();
        stage.until("a scratch database is made", true).await;
        tokio::time::sleep(Duration::from_millis(later_ms)).await;
        running.kill().await;
        stage.until("it is removed", false).await;
    }
    // Ctrl-C is the orderly way to the same end.
    let running = stage.rehearse(&[]).start();
    stage.until("a scratch database is made", true).await;
    running.signal(rustix::process::Signal::INT);
    let output = running.wait(Duration::from_secs(60)).await;
    assert!([0, 5].contains(&output.code), "{output:?}");
    assert_eq!(stage.scratch().await, Vec::<String>::new());
    stage.end().await;
}

#[tokio::test]
async fn leftovers_of_the_dead_are_removed_and_the_living_left_alone() {
    let pair = Pair::fresh("rehearse_leftover").await;
    let stage = Stage::new(pair.blue_url(), SCHEMA, "alter table t add column c int").await;
    let client = stage.client().await;
    for name in ["migrate_rehearsal_0000dead", "migrate_rehearsal_fffffffe", "migrate_rehearsal_0badcafe"] {
        client.batch_execute(&format!("create database {name}")).await.unwrap();
    }
    client
        .batch_execute("comment on database migrate_rehearsal_0badcafe is 'somebody else''s'; select pg_advisory_lock(1836214387, -2)")
        .await
        .unwrap();
    let output = stage.rehearse(&[]).run().await.expect(0);
    assert!(output.stderr.contains("migrate_rehearsal_0000dead"), "{}", output.stderr);
    assert_eq!(stage.scratch().await, ["migrate_rehearsal_0badcafe", "migrate_rehearsal_fffffffe"]);
    for name in stage.scratch().await {
        client.batch_execute(&format!("drop database {name}")).await.unwrap();
    }
    stage.end().await;
}

#[tokio::test]
async fn without_the_right_to_create_databases_another_server_is_named() {
    let pair = Pair::fresh("rehearse_createdb").await;
    let mut stage = Stage::new(pair.blue_url(), SCHEMA, "alter table r add column c int").await;
    let client = stage.client().await;
    client
        .batch_execute("drop role if exists rehearse_poor; create role rehearse_poor login password 'poor'; alter table r owner to rehearse_poor; grant all on schema public to rehearse_poor; grant select on all tables in schema public to rehearse_poor")
        .await
        .unwrap();
    let port = pair.blue_server().port;
    stage.url = format!("postgresql://rehearse_poor:poor@127.0.0.1:{port}/{}", pair.blue_database());
    let refused = stage.rehearse(&[]).run().await.expect(1);
    assert!(refused.stderr.contains("createdb") && refused.stderr.contains("--on"), "{}", refused.stderr);

    // On the other server the roles are missing: named, and no obstacle.
    let elsewhere = stage.rehearse(&["--json"]).env("MIGRATE_REHEARSE_ON", pair.green_url()).run().await;
    let report = elsewhere.expect(0).json();
    assert_eq!(report["statements"][0]["verdict"], "pass", "{report:#}");
    let left_out = report["left_out"].to_string();
    assert!(left_out.contains("rehearse_poor") && left_out.contains("no such role"), "{left_out}");
    client.batch_execute("drop owned by rehearse_poor; drop role rehearse_poor").await.unwrap();
    stage.url = pair.blue_url();
    stage.end().await;
}
