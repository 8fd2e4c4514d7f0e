//! Facts are read from real servers, the same twice, and survive their file.

use crate::support::Pair;
use migrate::{
    facts::{
        ConstraintKind, Generated, IdentityColumn, Persistence, ReplicaIdentity, ServerFacts, Table,
        TableKind,
    },
    pg::{
        catalog,
        name::{Ident, TableName},
    },
    plan::{Side, TableSelection},
};
use std::fs;
use tokio_postgres::Client;

/// One of everything a fact is about.
const RICH: &str = include_str!("../fixtures/rich_schema.sql");

async fn read(client: &Client, side: Side) -> ServerFacts {
    let selection =
        TableSelection { include: vec!["public.*".into(), "odd.schema.*".into()], exclude: Vec::new() };
    catalog::read(client, side, &selection).await.unwrap()
}

/// Without what moves by itself on a server that nobody uses.
fn still(mut facts: ServerFacts) -> ServerFacts {
    facts.wal_insert_lsn = None;
    facts.connections_used = 0;
    facts.senders_used = 0;
    facts.slots.clear();
    facts.prepared_transactions.clear();
    facts.long_transactions.clear();
    facts.clock_ahead_ms = 0;
    // Other tests on the same server have roles of their own.
    facts.roles.clear();
    for table in &mut facts.tables {
        // Autovacuum may look at a table between two readings.
        table.rows_estimate = 0;
        table.total_bytes = 0;
        table.heap_bytes = 0;
    }
    facts
}

fn table<'a>(facts: &'a ServerFacts, name: &str) -> &'a Table {
    facts.table(&TableName::new("public", name)).unwrap_or_else(|| panic!("no table {name}"))
}

#[tokio::test]
async fn the_same_database_gives_the_same_facts_twice() {
    for major in [15, 18] {
        let pair = Pair::of_majors("facts_twice", major, 18).await;
        let blue = pair.blue().await;
        blue.batch_execute(RICH).await.unwrap();
        let first = still(read(&blue, Side::Blue).await);
        let second = still(read(&blue, Side::Blue).await);
        assert_eq!(first, second, "on {major}");
        assert_eq!(first.major(), major);
        let text = serde_json::to_string_pretty(&first).unwrap();
        assert_eq!(serde_json::from_str::<ServerFacts>(&text).unwrap(), first, "on {major}");
    }
}

#[tokio::test]
async fn every_kind_of_object_is_seen_for_what_it_is() {
    for major in [15, 18] {
        let pair = Pair::of_majors("facts_kinds", major, 18).await;
        let blue = pair.blue().await;
        blue.batch_execute(RICH).await.unwrap();
        let facts = read(&blue, Side::Green).await;

        let token = table(&facts, "token");
        assert_eq!(token.key(), Some(vec![Ident::new("id")]));
        assert_eq!(token.has_rows, Some(true));
        let generated = token.columns.iter().find(|column| column.name == Ident::new("twice")).unwrap();
        assert_eq!(generated.generated, Generated::Stored);
        assert_eq!(generated.default.as_deref(), Some("((amount)::integer * 2)"));
        let reference = token.constraints.iter().find(|one| one.kind == ConstraintKind::ForeignKey).unwrap();
        assert_eq!(reference.references, Some(TableName::new("public", "client")));
        let partial = token.indexes.iter().find(|index| index.name == Ident::new("token_at_idx")).unwrap();
        assert!(!partial.plain && !partial.unique && partial.valid);

        let client = table(&facts, "client");
        assert_eq!(client.replica_triggers, [Ident::new("audit")]);
        assert_eq!(client.has_rows, Some(false));
        assert_eq!(table(&facts, "numbered").columns[0].identity, IdentityColumn::Always);
        assert_eq!(table(&facts, "numbered").columns[1].identity, IdentityColumn::ByDefault);
        assert_eq!(table(&facts, "fleeting").persistence, Persistence::Unlogged);
        assert_eq!(table(&facts, "deferred").key(), None);
        assert_eq!(table(&facts, "keyless").key(), None);
        assert_eq!(table(&facts, "whole").identity, ReplicaIdentity::Full);
        assert_eq!(table(&facts, "whole").key(), Some(Vec::new()), "no unique key: its whole row names it");
        assert_eq!(table(&facts, "by_index").identity, ReplicaIdentity::Index(Ident::new("by_index_b")));
        assert_eq!(table(&facts, "by_index").key(), Some(vec![Ident::new("b")]));
        // The index is gone, and with it the identity.
        assert_eq!(table(&facts, "by_lost_index").identity, ReplicaIdentity::Nothing);
        assert!(!table(&facts, "hidden").row_security, "nothing is hidden from a superuser");

        let parts = table(&facts, "parts");
        assert_eq!((parts.kind, parts.has_rows), (TableKind::Partitioned, None));
        let part = table(&facts, "parts_1");
        assert!(part.is_partition && part.parent == Some(parts.name.clone()));
        assert!(!table(&facts, "child").is_partition);

        let odd = facts.table(&TableName::new("odd.schema", "t.x")).unwrap();
        assert_eq!(odd.columns[1].name, Ident::new("Col \"q"));
        assert_eq!(facts.views, [TableName::new("public", "a_view")]);
        assert_eq!(facts.materialized_views, [TableName::new("public", "a_sum")]);
        assert_eq!(facts.large_objects, 1);

        let sequence =
            |name: &str| facts.sequences.iter().find(|one| one.name.name == Ident::new(name)).unwrap();
        assert_eq!(
            sequence("token_id_seq").owner,
            Some((TableName::new("public", "token"), Ident::new("id")))
        );
        assert_eq!(sequence("token_id_seq").last_value, Some(1));
        assert_eq!(sequence("small_seq").last_value, Some(30_000));
        assert_eq!(sequence("small_seq").data_type, "smallint");
        assert_eq!(sequence("numbered_a_seq").last_value, None);
        assert!(facts.role.superuser && facts.role.replica_role && facts.role.sees_all_sessions);
        assert_eq!(facts.settings["wal_level"], "logical");
        assert_eq!(facts.database, pair.blue_database());
    }
}

#[tokio::test]
async fn ours_extensions_and_temporary_tables_are_left_out() {
    let pair = Pair::fresh("facts_left_out").await;
    let blue = pair.blue().await;
    blue.batch_execute(
        "create schema migrate; create table migrate.identity (side text, plan text, nonce text);
         insert into migrate.identity values ('blue', 'tokens', 'n1');
         create temp table passing (a int); create table public.mine (a int primary key)",
    )
    .await
    .unwrap();
    let facts = read(&blue, Side::Blue).await;
    assert_eq!(facts.tables.iter().map(|table| table.name.plain()).collect::<Vec<_>>(), ["public.mine"]);
    assert!(facts.schemas.iter().all(|schema| schema.as_str() != "migrate"));
    let ours = facts.ours.unwrap();
    assert_eq!(
        (ours.side.as_deref(), ours.plan.as_deref(), ours.attempt),
        (Some("blue"), Some("tokens"), None)
    );
}

#[tokio::test]
async fn the_fingerprint_changes_with_the_shape_and_not_with_our_gate() {
    for major in [15, 18] {
        let pair = Pair::of_majors("facts_fingerprint", major, 18).await;
        let blue = pair.blue().await;
        blue.batch_execute(
            "create table t (a int primary key, b text); create table other (a int primary key);
             create schema migrate; create function migrate.gate_check() returns trigger language plpgsql
             as 'begin return null; end';
             create function audit() returns trigger language plpgsql as 'begin return null; end'",
        )
        .await
        .unwrap();
        let tables = [TableName::new("public", "t")];
        let fingerprint = async || catalog::ddl_fingerprint(&blue, &tables).await.unwrap();
        let mut last = fingerprint().await;

        let quiet = [
            "insert into t values (1, 'x')",
            "create trigger gate before insert on t for each statement execute function migrate.gate_check()",
            "alter table other add column b int",
            "analyze t",
        ];
        for sql in quiet {
            blue.batch_execute(sql).await.unwrap();
            assert_eq!(fingerprint().await, last, "on {major}: {sql}");
        }
        let loud = [
            "alter table t add column c int",
            "alter table t alter column c type bigint",
            "alter table t alter column c set default 1",
            "alter table t alter column b set not null",
            "alter table t rename column c to d",
            "create index on t (d)",
            "alter table t add constraint positive check (d > 0) not valid",
            "alter table t validate constraint positive",
            "create trigger audit after insert on t for each row execute function audit()",
            "alter table t disable trigger audit",
            "create rule quiet as on delete to t do instead nothing",
            "alter table t replica identity full",
            "alter table t enable row level security",
        ];
        for sql in loud {
            blue.batch_execute(sql).await.unwrap();
            let next = fingerprint().await;
            assert_ne!(next, last, "on {major}: {sql}");
            last = next;
        }
    }
}

#[tokio::test]
async fn one_database_is_told_from_two() {
    let pair = Pair::fresh("facts_same").await;
    let (blue, again, green) = (pair.blue().await, pair.blue().await, pair.green().await);
    assert!(catalog::same_database(&blue, &again).await.unwrap());
    assert!(!catalog::same_database(&blue, &green).await.unwrap());
    // Another database of the same server is another database.
    let neighbor = pair.blue_server().connect("postgres").await.unwrap();
    assert!(!catalog::same_database(&blue, &neighbor).await.unwrap());
    let held: i64 = blue
        .query_one(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(held, 0, "the question leaves no lock behind");
}

#[tokio::test]
async fn reading_changes_nothing_and_leaves_no_transaction() {
    let pair = Pair::fresh("facts_clean").await;
    let blue = pair.blue().await;
    read(&blue, Side::Blue).await;
    // A failed reading ends its transaction too.
    blue.batch_execute("create table t (a int)").await.unwrap();
    blue.batch_execute("begin; lock table t in access exclusive mode").await.unwrap();
    let other = pair.blue().await;
    let error = catalog::read(&other, Side::Blue, &TableSelection::default()).await.unwrap_err();
    assert!(error.chain().join(" ").contains("55P03"), "{:?}", error.chain());
    blue.batch_execute("rollback").await.unwrap();
    other.batch_execute("create table after_it (a int)").await.unwrap();
    assert_eq!(read(&other, Side::Blue).await.tables.len(), 2);
}

#[tokio::test]
async fn the_shipped_hydra_sql_runs_on_its_fixture() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let pair = Pair::fresh("facts_hydra").await;
    for client in [pair.blue().await, pair.green().await] {
        let fixture = fs::read_to_string(format!("{root}tests/fixtures/hydra/schema_1x.sql")).unwrap();
        client.batch_execute(&fixture).await.unwrap();
        for step in ["hydra-1x", "hydra-2x"] {
            let mut files: Vec<_> = fs::read_dir(format!("{root}plans/sql/{step}"))
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort();
            for file in files {
                let sql = fs::read_to_string(&file).unwrap();
                client
                    .batch_execute(&sql)
                    .await
                    .unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
            }
        }
        let facts = read(&client, Side::Blue).await;
        assert_eq!(table(&facts, "hydra_oauth2_flow").key(), Some(vec![Ident::new("login_challenge")]));
    }
}
