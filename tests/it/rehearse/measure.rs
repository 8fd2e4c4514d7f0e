//! The measuring alone: statements as operators write them, and predictions that lie.

use crate::support::Pair;
use migrate::{
    ddl::{Online, Settings, SqlFile, lock::LockMode, rewrite},
    pg::{catalog, connect, conninfo::ConnInfo, name::Ident},
    plan::{Side, TableSelection},
    rehearse::{
        lab::{Lab, Trial},
        measured::{Measured, RelationKind},
        verdict::{Verdict, judge},
    },
};

/// No table has rows, as in a scratch database.
const SCHEMA: &str = "
    create table r (id bigint primary key);
    create table t (id bigint generated always as identity primary key, a int, b varchar(20), r_id bigint);
    create index t_a on t (a);
    create index t_a2 on t (a, id);
    create table ch (id bigint primary key, t_id bigint references t);
    create table tr (a int);
    create domain positive as int;
    create table td (a positive);
    create materialized view m as select a from t;
    create unique index m_a on m (a);
    create table p (id bigint, a int, primary key (id)) partition by range (id);
    create table p1 partition of p for values from (0) to (10000);
    create table p2 (id bigint not null, a int);";

/// What operators write, and what it does: `ddl-locks.tsv` of the research, measured there on tables with rows.
const AS_WRITTEN: [(&str, &str); 22] = [
    ("alter table t add column n int", "t:AEX"),
    ("alter table t add column n timestamptz default clock_timestamp()", "t:AEX rewrite(t) build(t) scan(t)"),
    ("alter table t add column n int check (n > 0)", "t:AEX scan(t)"),
    ("alter table t add column n int unique", "t:AEX build(t) scan(t)"),
    ("alter table t alter a set not null", "t:AEX scan(t)"),
    ("alter table t alter a type bigint", "m:none"),
    ("alter table t alter b type text", "t:AEX"),
    ("alter table t alter b type varchar(10)", "t:AEX rewrite(t) build(t) scan(t)"),
    ("alter table t add constraint k check (a > 0)", "t:AEX scan(t)"),
    ("alter table t add constraint k check (a > 0) not valid", "t:AEX"),
    ("alter table t add constraint k foreign key (r_id) references r", "r:SRE,t:SRE scan(t)"),
    ("alter table t add constraint k foreign key (r_id) references r not valid", "r:SRE,t:SRE"),
    ("alter table t drop column b", "t:AEX"),
    ("drop table ch", "ch:AEX,t:AEX"),
    ("create index t_b on t (b)", "t:S build(t) scan(t)"),
    ("reindex table t", "t:S build(t) scan(t)"),
    ("drop index t_a2", "t:AEX"),
    ("truncate tr", "tr:AEX"),
    ("update t set a = 1", "t:RX scan(t)"),
    ("alter domain positive add constraint k check (value > 0)", "td:S scan(td)"),
    (
        "alter table p attach partition p2 for values from (10000) to (20000)",
        "p:SUE,p2:AEX build(p2) scan(p2)",
    ),
    ("create table n (id int primary key)", "-"),
];

/// What runs outside a transaction, and what is seen of it.
const OUTSIDE: [(&str, &str); 4] = [
    ("create index concurrently t_b on t (b)", "t:SUE build(t)"),
    ("drop index concurrently t_a2", "t:SUE"),
    ("reindex index concurrently t_a", "t:SUE build(t)"),
    ("alter table p detach partition p1 concurrently", "p:SUE,p1:AEX"),
];

fn short(mode: LockMode) -> &'static str {
    match mode {
        LockMode::AccessShare => "AS",
        LockMode::RowShare => "RS",
        LockMode::RowExclusive => "RX",
        LockMode::ShareUpdateExclusive => "SUE",
        LockMode::Share => "S",
        LockMode::ShareRowExclusive => "SRE",
        LockMode::Exclusive => "X",
        LockMode::AccessExclusive => "AEX",
    }
}

/// In the notation of the research: tables alone, RX only where rows are written.
fn notation(measured: &Measured) -> String {
    let locks: Vec<String> = measured
        .locks
        .iter()
        .filter(|lock| matches!(lock.kind, RelationKind::Table | RelationKind::Materialized))
        .filter(|lock| lock.mode > LockMode::RowShare)
        .map(|lock| format!("{}:{}", lock.relation.name.as_str(), short(lock.mode)))
        .collect();
    let mut text = if locks.is_empty() { "-".to_owned() } else { locks.join(",") };
    for (word, tables) in
        [("rewrite", &measured.rewritten), ("build", &measured.built), ("scan", &measured.scanned)]
    {
        if !tables.is_empty() {
            let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            text.push_str(&format!(" {word}({})", names.join(",")));
        }
    }
    text
}

/// A database of its own for a statement, made new each time.
async fn made_new(url: &str) -> ConnInfo {
    let client = crate::support::cluster::connect(url).await.unwrap();
    client.batch_execute("drop schema public cascade; create schema public").await.unwrap();
    client.batch_execute(SCHEMA).await.unwrap();
    ConnInfo::parse(url).unwrap()
}

async fn measure(info: &ConnInfo, sql: &str, transactional: bool) -> Measured {
    let path = [Ident::new("public")];
    let mut lab = Lab::open(info).await.unwrap();
    let trial = Trial { sql, search_path: &path, settings: &Settings::default(), transactional };
    lab.measure(trial).await.unwrap_or_else(|error| panic!("{sql}: {}", error.chain().join(": ")))
}

#[tokio::test]
async fn what_operators_write_is_seen_to_lock_scan_rewrite_and_build() {
    let pair = Pair::fresh("rehearse_written").await;
    let mut wrong = Vec::new();
    for url in [pair.blue_url(), pair.green_url()] {
        for (sql, expected) in AS_WRITTEN {
            let info = made_new(&url).await;
            if expected == "m:none" {
                // A materialized view uses the column, so the server refuses it: that is an error, not a measurement.
                let path = [Ident::new("public")];
                let mut lab = Lab::open(&info).await.unwrap();
                let trial =
                    Trial { sql, search_path: &path, settings: &Settings::default(), transactional: true };
                let error = lab.measure(trial).await.unwrap_err();
                assert!(error.chain().join(": ").contains("0A000"), "{:?}", error.chain());
                // The same laboratory goes on.
                let again = Trial { sql: "alter table t add column n int", ..trial };
                assert_eq!(notation(&lab.measure(again).await.unwrap()), "t:AEX");
                continue;
            }
            let seen = notation(&measure(&info, sql, true).await);
            if seen != expected {
                wrong.push(format!("{sql}: expected {expected}, saw {seen}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[tokio::test]
async fn what_runs_outside_a_transaction_is_seen_while_it_waits() {
    let pair = Pair::fresh("rehearse_outside").await;
    for url in [pair.blue_url(), pair.green_url()] {
        for (sql, expected) in OUTSIDE {
            let info = made_new(&url).await;
            let measured = measure(&info, sql, false).await;
            let seen = notation(&measured);
            assert_eq!(seen, expected, "{sql}");
            assert!(measured.held_ms < 5_000, "{sql} was held up for {} ms", measured.held_ms);
        }
    }
}

async fn online(info: &ConnInfo, sql: &str) -> Vec<Online> {
    let client = connect::connect(info, "test").await.unwrap();
    let facts = catalog::read(&client, Side::Blue, &TableSelection::default()).await.unwrap();
    let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&facts));
    assert!(result.may_run(), "{:?}", result.findings);
    result.statements
}

/// Makes a prediction wrong.
type Lie = fn(&mut Online);

#[tokio::test]
async fn a_prediction_that_lies_is_caught() {
    let pair = Pair::fresh("rehearse_lie").await;
    for url in [pair.blue_url(), pair.green_url()] {
        // The truth passes; then a lock too weak, a table not named, work not told.
        let sql = "alter table t add constraint k foreign key (r_id) references r not valid";
        let lies: [(&str, Lie); 4] = [
            ("the truth", |_| {}),
            ("too weak", |online| {
                for lock in &mut online.cost.locks {
                    lock.mode = LockMode::ShareUpdateExclusive;
                }
            }),
            ("not named", |online| online.cost.locks.retain(|lock| lock.relation.name.as_str() == "t")),
            ("another statement", |online| online.sql = "alter table t alter a set not null".into()),
        ];
        for (lie, tell) in lies {
            let info = made_new(&url).await;
            let mut statement = online(&info, sql).await.remove(0);
            tell(&mut statement);
            let measured = Lab::open(&info).await.unwrap().measure(Trial::from(&statement)).await.unwrap();
            let judgment = judge(&statement.cost, &measured);
            let expected = match lie {
                "the truth" => Verdict::Pass,
                "another statement" => Verdict::Blocks,
                _ => Verdict::Differs,
            };
            assert_eq!(judgment.verdict, expected, "{lie}: {judgment:?}");
        }
        // A build that was not told.
        let info = made_new(&url).await;
        let mut build = online(&info, "create index t_b on t (b)").await.remove(0);
        let measured = Lab::open(&info).await.unwrap().measure(Trial::from(&build)).await.unwrap();
        assert_eq!(judge(&build.cost, &measured).verdict, Verdict::Pass, "{measured:?}");
        (build.cost.build, build.cost.scan) = (false, false);
        assert_eq!(judge(&build.cost, &measured).verdict, Verdict::Differs);
    }
}
