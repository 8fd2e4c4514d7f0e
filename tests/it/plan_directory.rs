//! `migrate plan DIR`, through the built program: what is read, in which forms it is shown, and the exit code.

use crate::support::run::{Desk, Output, migrate};

async fn run(desk: &Desk, args: &[&str]) -> Output {
    migrate(args).within(desk.path()).run().await
}

/// Two migrations of golang-migrate, the second of which would stop a busy table.
fn orders() -> Desk {
    let desk = Desk::new("plan_directory");
    desk.write("db/1_orders.up.sql", "create table orders (id bigint primary key, at timestamptz);\n");
    desk.write("db/1_orders.down.sql", "drop table orders;\n");
    desk.write("db/2_at.up.sql", "create index orders_at on orders (at);\n");
    desk
}

#[tokio::test]
async fn a_directory_is_planned_from_a_version_on() {
    let desk = orders();
    let whole = run(&desk, &["plan", "db"]).await.expect(0).stdout;
    assert!(whole.contains("DDL_FROM_THE_FIRST"), "{whole}");
    assert!(!whole.contains("CONCURRENTLY"), "the table is made here: {whole}");
    let rest = run(&desk, &["plan", "db", "--after", "1"]).await.expect(0).stdout;
    insta::assert_snapshot!(rest, @"");
    assert!(!rest.contains("drop table"));
}

#[tokio::test]
async fn the_severity_that_fails_is_the_callers_choice() {
    let desk = orders();
    run(&desk, &["plan", "db", "--after", "1", "--fail-on", "warning"]).await.expect(0);
    run(&desk, &["plan", "db", "--after", "1", "--fail-on", "info"]).await.expect(3);
    run(&desk, &["plan", "db", "--fail-on", "warning"]).await.expect(3);
    desk.write("db/3_x.up.sql", "cluster orders;\n");
    run(&desk, &["plan", "db", "--after", "1"]).await.expect(3);
}

#[tokio::test]
async fn every_form_goes_to_standard_output_alone() {
    let desk = orders();
    for (format, beginning) in
        [("sql", "-- db: "), ("markdown", "## migrate plan: db"), ("sarif", "{"), ("json", "{")]
    {
        let output = run(&desk, &["plan", "db", "--after", "1", "--format", format]).await.expect(0);
        assert!(output.stdout.starts_with(beginning), "{format}: {}", output.stdout);
        assert_eq!(output.stderr, "", "{format}");
    }
    let log = run(&desk, &["plan", "db", "--format", "sarif"]).await.expect(0).json();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["runs"][0]["results"].as_array().unwrap().len() >= 2, "{log}");
}

#[tokio::test]
async fn what_cannot_be_planned_is_one_clear_error() {
    let desk = orders();
    let refused = async |args: &[&str]| {
        let output = run(&desk, args).await.expect(1);
        assert_eq!(output.stdout, "");
        output.stderr
    };
    let mut all = vec![
        refused(&["plan", "db", "--after", "7"]).await,
        refused(&["plan", "db", "--tool", "popx", "--after", "x"]).await,
    ];
    desk.write("my/1_a.sql", "create table `t` (id int auto_increment) engine=InnoDB;\n");
    all.push(refused(&["plan", "my"]).await);
    desk.write("cut/1_a.sql", "create table t (id int);\nbegin;\nalter table t add column a int;\n");
    all.push(refused(&["plan", "cut"]).await);
    desk.write("half/1_a.sql", "create table t (id int);\nalter table t add\n");
    all.push(refused(&["plan", "half"]).await);
    desk.write("plan.yaml", "version: 1\nname: a\nkind: in_place\nblue: { url: x }\nschema: { sql: [db] }\n");
    all.push(refused(&["plan", "plan.yaml", "--after", "1"]).await);
    insta::assert_snapshot!(all.join("\n"), @"");
    run(&desk, &["plan", "plan.yaml", "--offline"]).await.expect(0);
}

#[tokio::test]
async fn the_database_of_the_environment_is_looked_at() {
    let desk = orders();
    let with = |args: &[&str]| {
        migrate(args).within(desk.path()).env("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/db")
    };
    let output = with(&["plan", "db"]).run().await.expect(1);
    assert!(output.stderr.contains("127.0.0.1") && !output.stderr.contains("hunter2"), "{}", output.stderr);
    with(&["plan", "db", "--offline"]).run().await.expect(0);
}
