//! The checks against real servers: what is bad is found, what is good is not.

use crate::support::{Pair, cluster};
use migrate::{
    check,
    facts::Facts,
    finding::{Finding, Severity},
    pg::{catalog, name::TableName},
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

/// What a dump of one database leaves behind, or brings along: seen on 15 and on 18, and gone once it is seen to.
#[tokio::test]
async fn what_a_clone_would_miss_or_bring_along_is_seen() {
    for major in [15, 18] {
        let pair = Pair::of_majors("check_clone", major, 18).await;
        let (blue, green) = (pair.blue().await, pair.green().await);
        let role = format!("reader_{}_{major}", std::process::id());
        let database = pair.blue_database();
        blue.batch_execute(&format!(
            "create role {role}; create table t (id int primary key, owner text); grant select on t to {role};
             alter table t enable row level security; alter table t force row level security;
             create policy own on t to {role} using (owner = current_user);
             create table cut (name text primary key) partition by range (name);
             create rule seen as on insert to t do also nothing; alter table t enable always rule seen;
             create function pass() returns event_trigger language plpgsql as 'begin end';
             create event trigger watch_{role} on ddl_command_end execute function pass();
             alter database \"{database}\" set default_transaction_isolation = 'serializable';
             alter database \"{database}\" set work_mem = '5MB'"
        ))
        .await
        .unwrap();
        let plan = plan("blue");
        // The first connection was there before the database got its settings.
        let seen = facts(&pair, &plan).await;
        let findings = check::run(&plan, &seen);
        let said = |code: &str| -> Vec<String> {
            let of_code = findings.iter().filter(|finding| finding.code == code);
            of_code.map(|finding| format!("{}: {}", finding.place, finding.what)).collect()
        };
        assert_eq!(
            said("ROLE_MISSING"),
            [format!(
                "green: role {role}: it is granted rights, is named by a policy on blue, and green has no such role"
            )],
            "on {major}: {findings:?}"
        );
        assert_eq!(said("EVENT_TRIGGER").len(), 1, "on {major}: {findings:?}");
        assert_eq!(said("REPLICA_TRIGGER"), ["blue: public.t: seen fires for replicated rows too"]);
        assert_eq!(said("DATABASE_SETTING").len(), 2, "on {major}: {findings:?}");
        assert_eq!(
            said("SETTING_DIFFERS"),
            ["green: default_transaction_isolation: it is serializable on blue and read committed on green"]
        );
        // The tests' clocks are one clock, and superusers are bound by no policy.
        assert_eq!(said("CLOCK_SKEW"), Vec::<String>::new());
        assert_eq!(said("ROW_SECURITY"), Vec::<String>::new());
        let seen_blue = seen.blue.unwrap();
        assert_eq!(seen_blue.forced_row_security, [TableName::new("public", "t")]);
        assert_eq!(seen_blue.text_ranges, [TableName::new("public", "cut")]);

        // On green there is another role of that name already, if both are one server.
        green
            .batch_execute(&format!(
                "do $$ begin create role {role}; exception when duplicate_object then null; end $$"
            ))
            .await
            .unwrap();
        blue.batch_execute(&format!(
            "drop event trigger watch_{role}; alter table t enable rule seen;
             alter database \"{database}\" reset all"
        ))
        .await
        .unwrap();
        let findings = check::run(&plan, &facts(&pair, &plan).await);
        for code in
            ["ROLE_MISSING", "EVENT_TRIGGER", "REPLICA_TRIGGER", "DATABASE_SETTING", "SETTING_DIFFERS"]
        {
            assert!(findings.iter().all(|finding| finding.code != code), "{code} on {major}: {findings:?}");
        }
        blue.batch_execute(&format!("drop table t, cut; drop role {role}")).await.unwrap();
        green.batch_execute(&format!("drop role if exists {role}")).await.unwrap();
    }
}

/// An owner whom the policies bind, and green sorted otherwise.
#[tokio::test]
async fn forced_policies_and_another_order_of_texts_are_seen() {
    let pair = Pair::fresh("check_order").await;
    let blue = pair.blue().await;
    let role = format!("owner_{}", std::process::id());
    let sorted = format!("{}_sorted", pair.green_database());
    let green = pair.green().await;
    for (locale, fires) in [("de-DE", true), ("same", false)] {
        blue.batch_execute(&format!(
            "create role {role}; create table cut (name text primary key) partition by range (name);
             create table t (id int primary key); alter table t owner to {role};
             alter table t enable row level security"
        ))
        .await
        .unwrap();
        let how = if fires {
            format!("locale_provider icu icu_locale '{locale}' locale 'C' encoding 'UTF8'")
        } else {
            String::new()
        };
        green.batch_execute(&format!("create database \"{sorted}\" template template0 {how}")).await.unwrap();
        if fires {
            blue.batch_execute("alter table t force row level security").await.unwrap();
        }
        let poor = pair.blue().await;
        poor.batch_execute(&format!("set role {role}")).await.unwrap();
        let other = cluster::connect(&pair.green_server().url(&sorted)).await.unwrap();
        let plan = plan("blue");
        let selection = &plan.replicate.tables;
        let seen = Facts {
            blue: Some(catalog::read(&poor, Side::Blue, selection).await.unwrap()),
            green: Some(catalog::read(&other, Side::Green, selection).await.unwrap()),
            ..Facts::default()
        };
        let findings = check::run(&plan, &seen);
        for code in ["COLLATION", "ROW_SECURITY", "TEXT_RANGE"] {
            let fired = findings.iter().any(|finding| finding.code == code);
            // The two servers may sort by libraries of two versions.
            assert!(fired == fires || (code == "COLLATION" && fired), "{code} with {locale}: {findings:?}");
        }
        drop((poor, other));
        green.batch_execute(&format!("drop database \"{sorted}\" with (force)")).await.unwrap();
        blue.batch_execute(&format!("drop table t, cut; drop role {role}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_schema_full_of_trouble_is_reported_whole() {
    let pair = Pair::fresh("check_trouble").await;
    pair.blue().await.batch_execute(include_str!("../fixtures/rich_schema.sql")).await.unwrap();
    pair.green().await.batch_execute("create view public.in_the_way as select 1 as one").await.unwrap();
    let plan = plan("blue");
    let findings = check::run(&plan, &facts(&pair, &plan).await);
    let expected =
        BTreeSet::from(["GREEN_NOT_EMPTY", "LARGE_OBJECTS", "NO_IDENTITY", "REPLICA_TRIGGER", "UNLOGGED"]);
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
