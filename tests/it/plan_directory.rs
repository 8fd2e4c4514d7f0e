//! `migrate plan DIR`, through the built program: what is read, in which forms it is shown, and the exit code.

use crate::support::run::{Desk, Output, migrate};

async fn run(desk: &Desk, args: &[&str]) -> Output {
    migrate(args).within(desk.path()).without_env("DATABASE_URL").run().await
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
    insta::assert_snapshot!(rest, @r"
    db
    blue was not looked at: every table may be large and in use

      1. create index orders_at on public.orders
         db/2_at.up.sql:1:1
           |
         1 | create index orders_at on orders (at)
           | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ SHARE on public.orders while an index is built: writers wait all that time
         runs   create index CONCURRENTLY orders_at on orders (at)
         takes  SHARE UPDATE EXCLUSIVE on public.orders while an index is built
         how    outside a transaction, no lock_timeout, up to 3 tries
         why    the index is built while the table is read and written
         step   ddl/create-index-orders_at-on-public.orders

    info DDL_DIRECTORY
      db: 2 files, read as golang-migrate runs them; its transactions are dissolved: each statement runs by itself, so that no lock is held over the next
        help: If they are another tool's, name it with --tool.

    info DDL_FILES_LEFT_OUT
      db: golang-migrate does not run 1 file (1_orders.down.sql): they take migrations back
        help: Nothing to do.

    info DDL_OFFLINE
      db/2_at.up.sql:1:1: planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen
        help: Plan again with the database (or a facts file) before running it.

    3 notes
    ");
    assert!(!rest.contains("drop table"));
}

#[tokio::test]
async fn one_file_is_planned_as_it_would_be_in_its_directory() {
    let desk = orders();
    let planned = async |file: &str| run(&desk, &["plan", file, "--format", "sql"]).await.expect(0).stdout;
    // Its table is not made in it, so it is in use.
    assert!(planned("db/2_at.up.sql").await.contains("CONCURRENTLY"));
    // Nothing of it would run in a directory; it is named, so it is meant.
    assert!(planned("db/1_orders.down.sql").await.contains("drop table orders"));
    desk.write("3_goose.sql", "-- +goose Up\nselect 1;\n-- +goose Down\nselect 2;\n");
    let goose = planned("3_goose.sql").await;
    assert!(goose.contains("select 1;") && !goose.contains("select 2;"), "{goose}");
    let shown = run(&desk, &["plan", "3_goose.sql"]).await.expect(0).stdout;
    assert!(
        shown.contains("  .: 1 file, read as goose runs them") && shown.contains("     3_goose.sql:2:1\n"),
        "{shown}"
    );
    let output = run(&desk, &["plan", "nowhere.sql"]).await.expect(1);
    assert!(output.stderr.contains("nowhere.sql"), "{}", output.stderr);
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
    insta::assert_snapshot!(all.join("\n"), @r#"
    error: db: no migration has the version 7
      hint: give the version of the last migration that has been run; the newest is 2

    error: db: no migration has the version x
      hint: give the version of the last migration that has been run; the newest is 2

    error: my/1_a.sql:1:14: syntax error at or near "`"
        |
      1 | create table `t` (id int auto_increment) engine=InnoDB;
        |              ^
      hint: This looks like MySQL's SQL (a name in backticks), and only PostgreSQL's is read. Name the files for PostgreSQL.

    error: cut/1_a.sql:2:1: this transaction is still open at the end of the file, so nothing in it would stay
        |
      2 | begin;
        | ^^^^^
      hint: Write COMMIT at the end, or bring back what the file has lost.

    error: half/1_a.sql:2:18: syntax error at end of input
        |
      2 | alter table t add
        |                  ^
      hint: The file ends in the middle of a statement: is it whole?

    error: --after is for a directory or a file of migrations, not for a plan file
      hint: a plan file names its databases and its SQL itself
    "#);
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
