//! Each tool's directory, as it is on disk, and what runs of it.

use super::*;

fn listing(files: &[(&str, &str)]) -> Listing {
    let mut entries: Vec<Entry> = files
        .iter()
        .map(|(path, text)| Entry { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() })
        .collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Listing { name: "db".into(), entries }
}

/// Names only: the text of each file is a statement of its own.
fn named(paths: &[&str]) -> Listing {
    let texts: Vec<(String, String)> =
        paths.iter().enumerate().map(|(at, path)| ((*path).to_owned(), format!("select {at};"))).collect();
    listing(&texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())
}

/// Tool, then the files in order, each with how it runs.
fn shown(listing: &Listing) -> Vec<String> {
    let read = read(listing, None).unwrap();
    let files = read.list.iter().map(|one| format!("{} {:?}", one.file.name, one.file.convention.run_as));
    std::iter::once(read.tool.to_string()).chain(files).collect()
}

fn refused(listing: &Listing) -> String {
    let error = read(listing, None).unwrap_err();
    format!("{}\nhint: {}", error.what, error.hint.unwrap_or_default())
}

fn remarks(listing: &Listing) -> Vec<String> {
    read(listing, None)
        .unwrap()
        .into_parts()
        .1
        .iter()
        .map(|finding| format!("{} {}: {}", finding.severity, finding.place, finding.what))
        .collect()
}

#[test]
fn plain_files_run_by_name() {
    assert_eq!(
        shown(&named(&["b.sql", "a.sql", "README.md"])),
        ["plain SQL", "db/a.sql Statements", "db/b.sql Statements"]
    );
    assert_eq!(
        shown(&named(&["002_b.sql", "001_a.sql"])),
        ["plain SQL", "db/001_a.sql Statements", "db/002_b.sql Statements"]
    );
}

#[test]
fn numbers_that_are_not_in_the_order_of_names_are_refused() {
    insta::assert_snapshot!(refused(&named(&["1_a.sql", "2_b.sql", "10_c.sql"])), @r"
    db: its files are numbered, and the order of the names is not that of the numbers: psql's users go by name, sqlx by number
    hint: say which it is: --tool plain or --tool sqlx
    ");
}

#[test]
fn golang_migrate_runs_up_files_by_number() {
    let files = named(&["2_b.up.sql", "2_b.down.sql", "10_c.up.sql", "10_c.down.sql", "1_a.up.sql"]);
    assert_eq!(
        shown(&files),
        ["golang-migrate", "db/1_a.up.sql Message", "db/2_b.up.sql Message", "db/10_c.up.sql Message"]
    );
    insta::assert_snapshot!(remarks(&named(&["1_b.up.sql", "1_b.down.sql", "seed.sql", "2_c.up.sql", "4_d.up.sql"])).join("\n"), @r"
    info db: 3 files, read as golang-migrate runs them; its transactions are dissolved: each statement runs by itself, so that no lock is held over the next
    warning db/4_d.up.sql:1:1: version 3 is missing between db/2_c.up.sql and this file
    info db: golang-migrate does not run 1 file (1_b.down.sql): they take migrations back
    warning db: golang-migrate does not run 1 file (seed.sql): they have names the tool does not read
    ");
    insta::assert_snapshot!(refused(&named(&["1_b.up.sql", "2_c.sql"])), @r"
    db: 1_b.up.sql looks like golang-migrate, and 2_c.sql like sqlx; they would not run the same
    hint: say which it is: --tool golang-migrate or --tool sqlx
    ");
}

#[test]
fn two_files_of_one_version_are_refused() {
    insta::assert_snapshot!(refused(&named(&["7_b.up.sql", "007_a.up.sql"])), @r"
    db/007_a.up.sql and db/7_b.up.sql have the same version, 7
    hint: golang-migrate runs a version once: give one of them a number of its own
    ");
    insta::assert_snapshot!(refused(&named(&["V1_0__a.sql", "V1__b.sql"])), @r"
    db/V1_0__a.sql and db/V1__b.sql have the same version, 1
    hint: Flyway runs a version once: give one of them a number of its own
    ");
}

#[test]
fn goose_runs_what_is_between_up_and_down() {
    let text = "-- why\n\n-- +goose Up\n-- +goose StatementBegin\nselect 1; -- é\n-- +goose StatementEnd\n\n-- +goose Down\ndrop table é;\n";
    let files = listing(&[
        ("2_a.sql", text),
        ("10_b.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently i on t (a);\n"),
    ]);
    assert_eq!(shown(&files), ["goose", "db/2_a.sql Transaction", "db/10_b.sql Statements"]);
    let read = read(&files, None).unwrap();
    let kept = &read.list[0].file.text;
    assert_eq!(kept.len(), text.len(), "positions stay");
    assert!(kept.contains("select 1; -- é") && !kept.contains("drop"), "{kept}");
}

#[test]
fn sections_out_of_place_are_refused_with_a_caret() {
    let cases = [
        "select 1;\n-- +goose Up\n",
        "-- +goose Down\nselect 1;\n",
        "-- +goose Up\n-- +goose Donw\nselect 1;\n",
        "-- +goose Up\n-- +goose StatementBegin\nselect 1;\n",
        "-- +goose Up\n-- +goose ENVSUB ON\nselect ${X};\n",
        "select 1;\n",
    ];
    let all: Vec<String> = cases
        .iter()
        .map(|case| refused(&listing(&[("1_a.sql", case), ("2_b.sql", "-- +goose Up\n")])))
        .collect();
    insta::assert_snapshot!(all.join("\n\n"), @r"
    db/1_a.sql:1:1: this stands before `-- +goose Up`
      |
    1 | select 1;
      | ^^^^^^^^^
    hint: goose runs only what follows that line: write it first

    db/1_a.sql:1:1: this line is out of its place
      |
    1 | -- +goose Down
      | ^^^^^^^^^^^^^^
    hint: a file of goose is `-- +goose Up`, then the way back; statements that are opened are closed

    db/1_a.sql:2:1: goose has no such line
      |
    2 | -- +goose Donw
      | ^^^^^^^^^^^^^^
    hint: correct it: what follows could run by mistake

    db/1_a.sql:2:1: what is opened here is not closed
      |
    2 | -- +goose StatementBegin
      | ^^^^^^^^^^^^^^^^^^^^^^^^
    hint: is the file whole? close it

    db/1_a.sql:2:1: variables are filled in from here on, and their values are not known here
      |
    2 | -- +goose ENVSUB ON
      | ^^^^^^^^^^^^^^^^^^^
    hint: write the values

    db/1_a.sql:1:1: this stands before `-- +goose Up`
      |
    1 | select 1;
      | ^^^^^^^^^
    hint: goose runs only what follows that line: write it first
    ");
}

#[test]
fn a_migration_that_is_a_program_stops_the_plan() {
    let files = listing(&[
        ("1_a.sql", "-- +goose Up\n"),
        ("2_b.go", "package x"),
        ("2_b_test.go", "package x"),
        ("3_c.sql", "-- +goose Up\n"),
    ]);
    let blocking = |after: Option<&str>| {
        let mut read = read(&files, None).unwrap();
        if let Some(after) = after {
            read.keep_after(after).unwrap();
        }
        let findings = read.into_parts().1.into_iter();
        findings
            .filter(|finding| finding.severity == Severity::Blocking)
            .map(|finding| finding.place.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(blocking(None), ["db/2_b.go"]);
    assert_eq!(blocking(Some("1")), ["db/2_b.go"]);
    assert!(blocking(Some("3")).is_empty());
}

#[test]
fn dbmate_and_sql_migrate_have_marks_of_their_own() {
    let files = listing(&[(
        "1_a.sql",
        "-- migrate:up transaction:false\nselect 1;\n-- migrate:down\ndrop table t;\n",
    )]);
    assert_eq!(shown(&files), ["dbmate", "db/1_a.sql Message"]);
    let files = listing(&[
        ("10-b.sql", "-- +migrate Up notransaction\nselect 2;\n"),
        ("9-a.sql", "-- +migrate Up\nselect 1;\n-- +migrate Down\ndrop table t;\n"),
    ]);
    assert_eq!(shown(&files), ["sql-migrate", "db/9-a.sql Transaction", "db/10-b.sql Statements"]);
}

#[test]
fn sqlx_reads_numbers_and_the_first_line() {
    let files = listing(&[
        ("10_b.sql", "-- no-transaction\ncreate index concurrently i on t (a);"),
        ("9_a.up.sql", "select 1;"),
        ("9_a.down.sql", "select 2;"),
    ]);
    assert_eq!(shown(&files), ["sqlx", "db/9_a.up.sql Transaction", "db/10_b.sql Message"]);
}

#[test]
fn diesel_reads_a_directory_a_migration() {
    let files = listing(&[
        ("2024-02-01-000000_b/up.sql", "select 2;"),
        ("2024-02-01-000000_b/metadata.toml", "# why\nrun_in_transaction = false\n"),
        ("2024-01-31-120000_a/up.sql", "select 1;"),
        ("2024-01-31-120000_a/down.sql", "select 0;"),
    ]);
    assert_eq!(
        shown(&files),
        ["diesel", "db/2024-01-31-120000_a/up.sql Transaction", "db/2024-02-01-000000_b/up.sql Message"]
    );
    insta::assert_snapshot!(refused(&listing(&[("1_a/up.sql", ""), ("1_b/down.sql", "")])), @r"
    db/1_b has a down.sql and no up.sql
    hint: bring up.sql back, or remove the directory
    ");
    insta::assert_snapshot!(refused(&listing(&[("1_a/up.sql", ""), ("1_a/metadata.toml", "\nx = 1")])), @r"
    db/1_a/metadata.toml:2:1: `x = 1` is not understood
    hint: metadata.toml of diesel holds `run_in_transaction = true` or `= false`
    ");
}

#[test]
fn flyway_orders_by_parts_and_repeats_last() {
    let files = listing(&[
        ("R__views.sql", "select 4;"),
        ("V1_10__c.sql", "select 3;"),
        ("V1.9__b.sql", "select 2;"),
        ("sub/V1__a.sql", "select 1;"),
        ("V1_10__c.sql.conf", "executeInTransaction=false\n"),
        ("U1__a.sql", "select 0;"),
        ("B1__base.sql", "select 0;"),
        ("afterMigrate.sql", "select 0;"),
    ]);
    assert_eq!(
        shown(&files),
        [
            "Flyway",
            "db/sub/V1__a.sql TransactionIfAny",
            "db/V1.9__b.sql TransactionIfAny",
            "db/V1_10__c.sql Statements",
            "db/R__views.sql TransactionIfAny"
        ]
    );
    insta::assert_snapshot!(remarks(&files).join("\n"), @r"
    info db: 4 files, read as Flyway runs them; its transactions are dissolved: each statement runs by itself, so that no lock is held over the next
    info db: Flyway does not run 1 file (U1__a.sql): they take migrations back
    info db: Flyway does not run 1 file (B1__base.sql): they are baselines, which only an empty database gets
    warning db: Flyway does not run 1 file (afterMigrate.sql): they are callbacks, which the tool runs around its migrations
    ");
    insta::assert_snapshot!(refused(&listing(&[("V1__a.sql", "select 1;\ncreate table ${schema}.t ();")])), @r"
    db/V1__a.sql:2:14: Flyway would put a value in place of `${schema}`, and it is not known here
      |
    2 | create table ${schema}.t ();
      |              ^^^^^^^^^
    hint: write the value; if it is meant as it is, set placeholderReplacement=false in the file's .conf
    ");
}

#[test]
fn popx_takes_the_file_for_postgres() {
    let files = named(&[
        "20200101000000_a.up.sql",
        "20200101000000_a.down.sql",
        "20200102000000_b.up.sql",
        "20200102000000_b.postgres.up.sql",
        "20200102000000_b.mysql.up.sql",
        "20200103000000_c.autocommit.postgres.up.sql",
        "20200104000000_d.postgres.autocommit.up.sql",
        "20200105000000_e.sqlite.up.sql",
        "202001041_late.up.sql",
    ]);
    assert_eq!(
        shown(&files),
        [
            "popx",
            "db/20200101000000_a.up.sql Transaction",
            "db/20200102000000_b.postgres.up.sql Transaction",
            "db/20200103000000_c.autocommit.postgres.up.sql Message",
            "db/20200104000000_d.postgres.autocommit.up.sql Message",
            "db/202001041_late.up.sql Transaction",
        ]
    );
    insta::assert_snapshot!(remarks(&files).join("\n"), @r"
    info db: 5 files, read as popx runs them; its transactions are dissolved: each statement runs by itself, so that no lock is held over the next
    info db: popx does not run 2 files (20200102000000_b.mysql.up.sql, 20200105000000_e.sqlite.up.sql): they are for other databases
    info db: popx does not run 1 file (20200101000000_a.down.sql): they take migrations back
    info db: popx does not run 1 file (20200102000000_b.up.sql): they give way to a file of the same version that is for PostgreSQL alone
    ");
    insta::assert_snapshot!(refused(&named(&["1_a.mysql.up.sql", "1_a.mysql.down.sql"])), @r"
    db: nothing in it would be run by popx; 1 file (1_a.mysql.up.sql): they are for other databases
    hint: migrations of popx are named VERSION_name[.postgres][.autocommit].up.sql; --tool names another tool
    ");
    insta::assert_snapshot!(refused(&named(&["1_a.postgres.up.sql", "2_a.mongo.up.sql"])), @r"
    db/2_a.mongo.up.sql: `.mongo` in its name is neither a database popx knows nor `.autocommit`
    hint: name it VERSION_name[.postgres][.autocommit].up.sql
    ");
    insta::assert_snapshot!(refused(&listing(&[("1_a.postgres.up.sql", "select 1;\n{{ if .X }}")])), @r"
    db/1_a.postgres.up.sql:2:1: popx would fill in this template, and what it gives is not known here
      |
    2 | {{ if .X }}
      | ^^^^^^^^^^^
    hint: write out the SQL it gives for PostgreSQL
    ");
}

#[test]
fn prisma_reads_directories_and_its_lock() {
    let lock = |provider: &str| format!("# Please do not edit\nprovider = \"{provider}\"\n");
    let good = lock("postgresql");
    let files =
        [("20240102000000_b/migration.sql", "select 2;"), ("20240101000000_a/migration.sql", "select 1;")];
    let with = |lock: &str| {
        let mut files: Vec<(&str, &str)> = files.to_vec();
        files.push(("migration_lock.toml", lock));
        listing(&files)
    };
    assert_eq!(
        shown(&with(&good)),
        ["Prisma", "db/20240101000000_a/migration.sql Message", "db/20240102000000_b/migration.sql Message"]
    );
    insta::assert_snapshot!(refused(&with(&lock("mysql"))), @r#"
    db/migration_lock.toml:2:1: these migrations are for mysql, not for PostgreSQL
    hint: name the directory that was made with `provider = "postgresql"`
    "#);
}

#[test]
fn two_tools_marks_in_one_directory_are_refused() {
    let relic = listing(&[("1_a.postgres.up.sql", "-- +migrate Up\nselect 1;")]);
    assert_eq!(shown(&relic)[0], "popx");
    let files = listing(&[("V1__a.sql", "select 1;\n-- +goose Down\ndrop table t;")]);
    insta::assert_snapshot!(refused(&files), @r"
    db: V1__a.sql looks like Flyway, and V1__a.sql like goose; they would not run the same
    hint: say which it is: --tool flyway or --tool goose
    ");
}

#[test]
fn a_directory_without_sql_says_what_is_in_it() {
    insta::assert_snapshot!(refused(&named(&["0001_initial.py", "__init__.py"])), @r"
    db: there is no SQL in this directory
    hint: let the tool that runs this Python write its SQL into files (sqlmigrate, --sql, --dry-run), and name those
    ");
    insta::assert_snapshot!(refused(&named(&[])), @r"
    db: there is no SQL in this directory
    hint: migrations of plain SQL are named name.sql; --tool names another tool
    ");
}

#[test]
fn what_was_run_already_is_left_out_by_version() {
    let mut read = read(&named(&["2_b.up.sql", "10_c.up.sql", "1_a.up.sql"]), None).unwrap();
    let error = read.keep_after("3").unwrap_err();
    assert_eq!(error.what, "db: no migration has the version 3");
    assert!(error.hint.unwrap().contains("the newest is 10"));
    read.keep_after("002").unwrap();
    assert_eq!(read.list.len(), 1);
}

#[test]
fn what_the_tool_wrote_down_is_left_out() {
    let left = |applied: &Applied| {
        let mut read = read(&named(&["2_b.up.sql", "10_c.up.sql", "1_a.up.sql"]), None).unwrap();
        read.keep_unapplied(applied);
        read.list.iter().map(|one| one.version.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(left(&Applied::UpTo(None)), ["1", "2", "10"]);
    assert_eq!(left(&Applied::UpTo(Some("2".into()))), ["10"]);
    assert_eq!(
        left(&Applied::Each(vec!["1".into(), "10".into(), "99".into()])),
        ["2"],
        "one that came late still runs"
    );
}

#[test]
fn every_tool_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<&str> = Tool::ALL.iter().map(|tool| tool.word()).collect();
    assert_eq!(words.len(), Tool::ALL.len());
}
