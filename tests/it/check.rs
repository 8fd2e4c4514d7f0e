//! The checks against real servers: what is bad is found, what is good is not.

use crate::support::Pair;
use migrate::{
    check,
    facts::Facts,
    finding::{Finding, Severity},
    pg::catalog,
    plan::{Plan, Side, load},
};
use std::collections::BTreeSet;

async fn facts(pair: &Pair, plan: &Plan) -> Facts {
    let (blue, green) = (pair.blue().await, pair.green().await);
    let selection = &plan.replicate.tables;
    Facts {
        blue: Some(catalog::read(&blue, Side::Blue, selection).await.unwrap()),
        green: Some(catalog::read(&green, Side::Green, selection).await.unwrap()),
        same_database: catalog::same_database(&blue, &green).await.unwrap(),
        ..Facts::default()
    }
}

fn plan(schema_from: &str) -> Plan {
    let text = format!(
        "version: 1\nname: tokens\nkind: blue_green\nblue: {{ url: b }}\ngreen: {{ url: g }}\n\
         schema: {{ from: {schema_from} }}\n"
    );
    load::parse(&text, "plan.yaml", &|_| None).unwrap()
}

fn codes(findings: &[Finding], severity: Severity) -> BTreeSet<&str> {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .map(|finding| finding.code.as_str())
        .collect()
}

#[tokio::test]
async fn a_good_pair_has_nothing_that_blocks() {
    let pair = Pair::fresh("check_good").await;
    pair.oauth(1_000).await;
    let plan = plan("blue");
    let findings = check::run(&plan, &facts(&pair, &plan).await);
    assert_eq!(codes(&findings, Severity::Blocking), BTreeSet::new(), "{findings:?}");
}

#[tokio::test]
async fn a_schema_full_of_trouble_is_reported_whole() {
    let pair = Pair::fresh("check_trouble").await;
    pair.blue().await.batch_execute(include_str!("../fixtures/rich_schema.sql")).await.unwrap();
    pair.green().await.batch_execute("create view public.in_the_way as select 1 as one").await.unwrap();
    let plan = plan("blue");
    let findings = check::run(&plan, &facts(&pair, &plan).await);
    let expected = BTreeSet::from([
        "FULL_INCOMPARABLE",
        "GREEN_NOT_EMPTY",
        "LARGE_OBJECTS",
        "NO_IDENTITY",
        "REPLICA_TRIGGER",
        "UNLOGGED",
    ]);
    assert_eq!(codes(&findings, Severity::Blocking), expected, "{findings:?}");
    let without_identity: BTreeSet<String> = findings
        .iter()
        .filter(|finding| finding.code == "NO_IDENTITY")
        .map(|finding| finding.place.to_string())
        .collect();
    assert_eq!(
        without_identity.into_iter().collect::<Vec<_>>(),
        ["blue: public.by_lost_index", "blue: public.child", "blue: public.deferred", "blue: public.keyless"]
    );
}

#[tokio::test]
async fn greens_shape_is_compared_when_it_is_there() {
    let pair = Pair::fresh("check_shape").await;
    let blue = "create table t (a int primary key, b text, c text); create table missing (a int primary key)";
    pair.blue().await.batch_execute(blue).await.unwrap();
    let green = "create table t (a bigint, b text generated always as ('x') stored, d int not null); \
        insert into t (a, d) values (1, 1)";
    pair.green().await.batch_execute(green).await.unwrap();
    let plan = plan("none");
    let findings = check::run(&plan, &facts(&pair, &plan).await);
    let expected = BTreeSet::from([
        "GENERATED_DIFFERS",
        "GREEN_COLUMN_EXTRA",
        "GREEN_COLUMN_MISSING",
        "GREEN_KEY_MISSING",
        "GREEN_NOT_EMPTY",
        "GREEN_TABLE_MISSING",
        "SIDES_SWAPPED",
    ]);
    assert_eq!(codes(&findings, Severity::Blocking), expected, "{findings:?}");
    assert!(codes(&findings, Severity::Warning).contains("GREEN_COLUMN_TYPE"));
}

#[tokio::test]
async fn one_database_given_twice_is_refused() {
    let pair = Pair::fresh("check_same").await;
    let (blue, again) = (pair.blue().await, pair.blue().await);
    let same_database = catalog::same_database(&blue, &again).await.unwrap();
    let findings = check::run(&plan("blue"), &Facts { same_database, ..Facts::default() });
    assert_eq!(codes(&findings, Severity::Blocking), BTreeSet::from(["SAME_DATABASE"]));
}

#[tokio::test]
async fn a_role_without_rights_is_told_each_that_it_lacks() {
    let pair = Pair::fresh("check_role").await;
    let blue = pair.blue().await;
    blue.batch_execute("create table t (a int primary key); alter table t enable row level security")
        .await
        .unwrap();
    let role = format!("plain_{}", std::process::id());
    blue.batch_execute(&format!("create role {role}")).await.unwrap();
    let poor = pair.blue().await;
    poor.batch_execute(&format!("set role {role}")).await.unwrap();
    let plan = plan("blue");
    let seen = catalog::read(&poor, Side::Blue, &plan.replicate.tables).await.unwrap();
    drop(poor);
    blue.batch_execute(&format!("drop role {role}")).await.unwrap();
    let findings = check::run(&plan, &Facts { blue: Some(seen), ..Facts::default() });
    let expected = BTreeSet::from([
        "NOT_OWNER",
        "NOT_READABLE",
        "NO_CREATE_RIGHT",
        "NO_REPLICATION_RIGHT",
        "ROW_SECURITY",
    ]);
    assert_eq!(codes(&findings, Severity::Blocking), expected, "{findings:?}");
    assert!(codes(&findings, Severity::Warning).contains("SESSIONS_HIDDEN"));
}

#[tokio::test]
async fn open_and_prepared_transactions_are_seen() {
    let pair = Pair::fresh("check_sessions").await;
    let blue = pair.blue().await;
    blue.batch_execute("create table t (a int primary key)").await.unwrap();
    blue.batch_execute("begin; insert into t values (1); prepare transaction 'x'").await.unwrap();
    let writer = pair.blue().await;
    writer.batch_execute("begin; insert into t values (2)").await.unwrap();
    let mut plan = plan("blue");
    plan.cutover.transaction_age_max = "1s".parse().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let findings = check::run(&plan, &facts(&pair, &plan).await);
    assert!(codes(&findings, Severity::Blocking).contains("PREPARED_TRANSACTION"), "{findings:?}");
    assert!(codes(&findings, Severity::Warning).contains("LONG_TRANSACTION"), "{findings:?}");
    blue.batch_execute("rollback prepared 'x'").await.unwrap();
}
