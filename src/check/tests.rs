//! Every check is seen to fire, and not to fire: a pair of good servers and a good plan, changed in one thing.

mod good;

use super::{checks, reference, run};
use crate::{
    facts::*,
    finding::Severity,
    mapping::{TableMap, TableMaps},
    pg::name::{Ident, TableName},
    plan::{ChangeOp, ReplicateMode, SameTx},
};
use good::{Case, column, long_transaction, name, refers, sequence, slot, table};
use std::collections::BTreeSet;

/// A code, and a change of a good (`Case::good`, or `Case::shaped`) pair of servers that must bring it about.
type Spoiled = (&'static str, fn() -> Case, fn(&mut Case));

const DATABASES: &[Spoiled] = &[
    ("SAME_DATABASE", Case::good, |c| c.facts.same_database = true),
    ("SIDES_SWAPPED", Case::good, |c| {
        c.green().ours =
            Some(Ours { side: Some("blue".into()), plan: Some("tokens".into()), ..Ours::default() })
    }),
    ("SIDES_SWAPPED", Case::shaped, |c| {
        c.token().has_rows = Some(false);
        c.green_token().has_rows = Some(true);
    }),
    ("NOT_PRIMARY", Case::good, |c| c.blue().in_recovery = true),
    ("NOT_PRIMARY", Case::good, |c| c.green().in_recovery = true),
    ("VERSION_ORDER", Case::good, |c| c.blue().version_num = 190_000),
    ("VERSION_UNTESTED", Case::good, |c| c.blue().version_num = 140_010),
    ("NAME_TAKEN", Case::good, |c| c.blue().ours = Some(Ours::default())),
    ("NAME_TAKEN", Case::good, |c| {
        c.green().ours = Some(Ours { plan: Some("other".into()), ..Ours::default() })
    }),
    ("NAME_TAKEN", Case::good, |c| c.blue().slots = vec![slot("migrate_tokens_1")]),
    ("NAME_TAKEN", Case::good, |c| c.blue().publications = vec!["migrate_tokens".into()]),
    ("ENCODING", Case::good, |c| c.blue().encoding = "SQL_ASCII".into()),
    ("ENCODING", Case::good, |c| c.green().encoding = "LATIN1".into()),
    ("COLLATION", Case::good, |c| c.green().collation.collate = "C".into()),
    ("COLLATION", Case::good, |c| c.green().collation.ctype = "C".into()),
    ("COLLATION", Case::good, |c| {
        c.blue().collation.version = Some("2.36".into());
        c.green().collation.version = Some("2.41".into());
    }),
    ("COLLATION_STALE", Case::good, |c| {
        c.blue().collation.recorded_version = Some("2.28".into());
        c.blue().collation.version = Some("2.36".into());
    }),
    ("TEXT_RANGE", Case::good, |c| {
        c.green().collation.collate = "C".into();
        c.blue().text_ranges = vec![name("token")];
    }),
    ("CLOCK_SKEW", Case::good, |c| c.green().clock_ahead_ms = -1_001),
    ("SETTING_DIFFERS", Case::good, |c| {
        c.set("default_transaction_isolation", "serializable");
        c.green().settings.insert("default_transaction_isolation".into(), "read committed".into());
    }),
    ("DATABASE_SETTING", Case::good, |c| {
        c.blue().database_settings = [("search_path".to_owned(), "app".to_owned())].into();
    }),
    ("EXTENSION_MISSING", Case::good, |c| drop(c.blue().extensions.insert("citext".into(), "1.6".into()))),
    ("EXTENSION_VERSION", Case::good, |c| drop(c.blue().extensions.insert("plpgsql".into(), "0.9".into()))),
];

const MAPPINGS: &[Spoiled] = &[
    ("MAPPING_UNFIT", Case::good, |c| c.map("missing", TableMap::default())),
    ("MAPPING_UNFIT", Case::good, |c| {
        c.map("token", TableMap { to: Some(name("client")), ..TableMap::default() });
        let client = table("client");
        c.blue().tables.push(client);
    }),
    ("MAPPING_UNFIT", Case::shaped, |c| {
        c.map("token", TableMap { drop: vec![Ident::new("bdoy")], ..TableMap::default() });
    }),
    ("MAPPING_UNFIT", Case::shaped, |c| {
        c.map("token", TableMap { to: Some(name("gone")), ..TableMap::default() });
    }),
    ("MAPPING_UNFIT", Case::shaped, |c| {
        let part = |to: &str| TableMap {
            to: Some(name(to)),
            columns: [(Ident::new("id"), "id".to_owned())].into(),
            ..TableMap::default()
        };
        // No part has a place for the other columns.
        let only_id = Table { columns: vec![column("id", "bigint")], ..table("only") };
        c.green().tables.push(only_id);
        c.plan.replicate.map.insert(name("token"), TableMaps::Split(vec![part("only")]));
    }),
    ("MAPPING_UNFIT", Case::shaped, |c| c.join("flow", &["token", "gone"])),
    ("MAPPING_UNFIT", Case::shaped, |c| {
        c.join("flow", &["token"]);
        let flow = table("flow");
        c.blue().tables.push(flow);
    }),
    ("MAPPING_UNFIT", Case::shaped, |c| {
        c.join("flow", &["token"]);
        c.token().is_partition = true;
    }),
    ("MAPPING_UNPROVED", Case::good, |c| c.map("token", TableMap::default())),
    ("MAPPING_UNPROVED", Case::good, |c| c.join("flow", &["token"])),
    ("REVOCATION_MAPPED", Case::good, |c| c.join("flow", &["token"])),
    ("REVOCATION_MAPPED", Case::good, |c| {
        c.map(
            "token",
            TableMap { columns: [(Ident::new("new"), "id".into())].into(), ..TableMap::default() },
        );
    }),
];

const DECODING: &[Spoiled] = &[
    ("WAL_LEVEL", Case::good, |c| c.set("wal_level", "replica")),
    ("SLOTS_FULL", Case::good, |c| c.set("max_replication_slots", "1")),
    ("SENDERS_FULL", Case::good, |c| c.blue().senders_used = 9),
    ("WAL_UNBOUNDED", Case::good, |c| c.set("max_slot_wal_keep_size", "-1")),
    ("WAL_KEEP_SMALL", Case::good, |c| c.set("max_slot_wal_keep_size", "512MB")),
    ("SLOT_LOST", Case::good, |c| {
        c.attempt_on();
        c.blue().slots = vec![Slot { wal_status: Some("lost".into()), ..slot("migrate_tokens_1") }];
    }),
    ("CONNECTIONS_FULL", Case::good, |c| c.green().connections_used = 90),
    ("PREPARED_TRANSACTION", Case::good, |c| {
        c.blue().prepared_transactions =
            vec![PreparedTransaction { gid: "g".into(), database: "other".into(), age_ms: 1 }];
    }),
    ("LONG_TRANSACTION", Case::good, |c| c.blue().long_transactions = vec![long_transaction()]),
    ("SESSIONS_HIDDEN", Case::good, |c| c.blue().role.sees_all_sessions = false),
    ("OTHER_SLOT", Case::good, |c| c.blue().slots = vec![slot("debezium")]),
    ("SUBSCRIPTION_ON_BLUE", Case::good, |c| c.blue().subscriptions = vec!["s".into()]),
    ("JOBS_ON_BOTH_SIDES", Case::good, |c| drop(c.blue().extensions.insert("pg_cron".into(), "1".into()))),
];

const RIGHTS: &[Spoiled] = &[
    ("NO_REPLICATION_RIGHT", Case::good, |c| c.blue().role.replication = false),
    ("NOT_OWNER", Case::good, |c| c.token().owned_by_us = false),
    ("NOT_OWNER", Case::shaped, |c| c.green_token().owned_by_us = false),
    ("NOT_READABLE", Case::good, |c| c.token().readable = false),
    ("NO_CREATE_RIGHT", Case::good, |c| c.green().role.create_in_database = false),
    ("NO_REPLICA_ROLE", Case::good, |c| c.green().role.replica_role = false),
    ("ROW_SECURITY", Case::good, |c| c.token().row_security = true),
    ("ROW_SECURITY", Case::shaped, |c| c.green_token().row_security = true),
    ("ROW_SECURITY", Case::good, |c| {
        c.green().role.bypass_rls = false;
        c.blue().forced_row_security = vec![name("token")];
    }),
    ("ROLE_MISSING", Case::good, |c| {
        c.blue().roles_named = [("reader".to_owned(), "is granted rights".to_owned())].into();
    }),
];

const SELECTION: &[Spoiled] = &[
    ("PATTERN_UNMATCHED", Case::good, |c| c.plan.replicate.tables.include.push("pubilc.*".into())),
    ("EXCLUDE_UNMATCHED", Case::good, |c| c.plan.replicate.tables.exclude.push("public.nothing".into())),
    ("TABLE_LEFT_OUT", Case::good, |c| {
        c.blue().tables.push(table("other"));
        c.plan.replicate.tables.exclude.push("public.other".into());
    }),
    ("FAMILY_SPLIT", Case::good, |c| {
        c.token().parent = Some(TableName::new("app", "all"));
        c.token().is_partition = true;
    }),
    ("REFERENCE_OUT", Case::good, |c| c.token().constraints = vec![refers(TableName::new("app", "client"))]),
    ("REFERENCE_IN", Case::good, |c| {
        c.blue().tables.push(Table { constraints: vec![refers(name("token"))], ..table("other") });
        c.plan.replicate.tables.exclude.push("public.other".into());
    }),
];

const TABLES: &[Spoiled] = &[
    ("WRITES_NOT_CARRIED", Case::good, |c| c.plan.replicate.mode = ReplicateMode::Snapshot),
    ("NO_IDENTITY", Case::good, |c| c.token().indexes.clear()),
    ("NO_IDENTITY", Case::good, |c| c.token().indexes[0].immediate = false),
    ("NO_IDENTITY", Case::good, |c| c.token().identity = ReplicaIdentity::Nothing),
    ("NO_IDENTITY", Case::good, |c| {
        c.token().identity = ReplicaIdentity::Index(Ident::new("token_pkey"));
        c.token().indexes[0].valid = false;
    }),
    ("NO_IDENTITY", Case::good, |c| {
        c.blue().version_num = 180_000;
        c.green().version_num = 180_000;
        c.token().identity = ReplicaIdentity::Full;
        c.token().columns[1].generated = Generated::Stored;
    }),
    ("FULL_IS_SLOW", Case::good, |c| {
        c.token().identity = ReplicaIdentity::Full;
        c.token().indexes.clear();
    }),
    ("NO_RANGES", Case::good, |c| {
        c.plan.replicate.chunks.tables = vec!["public.*".into()];
        c.token().columns[0].type_name = "text".into();
    }),
    ("NO_RANGES", Case::good, |c| {
        c.plan.replicate.chunks.tables = vec!["public.token".into()];
        let other = Index { primary: false, name: Ident::new("other"), ..c.token().indexes[0].clone() };
        c.token().indexes.push(other);
    }),
    ("UNLOGGED", Case::good, |c| c.token().persistence = Persistence::Unlogged),
    ("FOREIGN_TABLE", Case::good, |c| c.token().kind = TableKind::Foreign),
    ("INHERITANCE", Case::good, |c| {
        c.blue().tables.push(Table { parent: Some(name("token")), ..table("other") });
    }),
    ("LARGE_OBJECTS", Case::good, |c| c.blue().large_objects = 1),
    ("MATERIALIZED_VIEW", Case::good, |c| c.blue().materialized_views = vec![name("sums")]),
    ("INVALID_INDEX", Case::good, |c| {
        c.token().indexes.push(Index { primary: false, valid: false, ..table("token").indexes[0].clone() });
    }),
    ("SEQUENCE_EXHAUSTED", Case::good, |c| c.blue().sequences = vec![sequence(i64::MAX - 999)]),
    ("SEQUENCE_EXHAUSTED", Case::good, |c| {
        c.token().columns[0].type_name = "integer".into();
        c.blue().sequences = vec![sequence(i64::from(i32::MAX) - 10)];
    }),
    ("SEQUENCE_WORN", Case::good, |c| {
        c.token().columns[0].type_name = "integer".into();
        c.blue().sequences = vec![sequence(i64::from(i32::MAX) / 10 * 9)];
    }),
    ("REVOCATION_KEY", Case::good, |c| c.plan.revocations[0].key = vec![Ident::new("body")]),
    ("REVOCATION_KEY", Case::good, |c| c.plan.revocations[0].table = name("nothing")),
    ("REVOCATION_KEY", Case::good, |c| {
        let match_column = Ident::new("body");
        c.plan.revocations[0].when.unless_same_tx = Some(SameTx { op: ChangeOp::Insert, match_column });
    }),
    ("REVOCATION_UNGATED", Case::good, |c| c.plan.replicate.tables.exclude = vec!["public.token".into()]),
];

const GREEN: &[Spoiled] = &[
    ("GREEN_NOT_EMPTY", Case::good, |c| c.green().tables = vec![table("anything")]),
    ("GREEN_NOT_EMPTY", Case::good, |c| c.green().views = vec![name("v")]),
    ("GREEN_NOT_EMPTY", Case::shaped, |c| c.green_token().has_rows = Some(true)),
    ("GREEN_TABLE_MISSING", Case::shaped, |c| c.green().tables.clear()),
    ("GREEN_COLUMN_MISSING", Case::shaped, |c| drop(c.green_token().columns.pop())),
    ("GREEN_COLUMN_EXTRA", Case::shaped, |c| c.green_token().columns.push(column("nid", "uuid"))),
    ("GREEN_COLUMN_TYPE", Case::shaped, |c| c.green_token().columns[0].type_name = "integer".into()),
    ("GENERATED_DIFFERS", Case::shaped, |c| c.green_token().columns[1].generated = Generated::Stored),
    ("GREEN_KEY_MISSING", Case::shaped, |c| c.green_token().indexes.clear()),
    ("REPLICA_TRIGGER", Case::good, |c| c.token().replica_triggers = vec![Ident::new("audit")]),
    ("REPLICA_TRIGGER", Case::shaped, |c| c.green_token().replica_triggers = vec![Ident::new("audit")]),
    ("EVENT_TRIGGER", Case::good, |c| c.blue().event_triggers = vec!["no_ddl".into()]),
    ("NOT_DURABLE", Case::good, |c| drop(c.green().settings.insert("fsync".into(), "off".into()))),
    ("STANDBYS_MISSING", Case::good, |c| c.blue().standbys = vec!["s1".into()]),
];

const OUTSIDE: &[Spoiled] = &[
    ("PGDUMP_MISSING", Case::good, |c| c.outside(OutsideState::PgDumpMissing)),
    ("PGDUMP_TOO_OLD", Case::good, |c| c.outside(OutsideState::PgDumpTooOld)),
    ("PGBOUNCER_UNREACHABLE", Case::good, |c| c.outside(OutsideState::PgBouncerUnreachable)),
    ("PGBOUNCER_SESSION_MODE", Case::good, |c| c.outside(OutsideState::PgBouncerSessionMode)),
    ("PGBOUNCER_ENTRY_MISSING", Case::good, |c| c.outside(OutsideState::PgBouncerEntryMissing)),
    ("PGBOUNCER_CONFIG_UNWRITABLE", Case::good, |c| c.outside(OutsideState::PgBouncerConfigUnwritable)),
    ("PGBOUNCER_NOT_ON_BLUE", Case::good, |c| c.outside(OutsideState::PgBouncerNotOnBlue)),
    ("BROKER_UNREACHABLE", Case::good, |c| c.outside(OutsideState::BrokerUnreachable)),
    ("BROKER_SINGLE_NODE", Case::good, |c| c.outside(OutsideState::BrokerSingleNode)),
    ("BROKER_UNSUITABLE", Case::good, |c| c.outside(OutsideState::BrokerUnsuitable)),
    ("COMMAND_MISSING", Case::good, |c| c.outside(OutsideState::CommandMissing)),
];

fn spoiled() -> impl Iterator<Item = &'static Spoiled> {
    [DATABASES, DECODING, RIGHTS, SELECTION, TABLES, GREEN, MAPPINGS, OUTSIDE].into_iter().flatten()
}

#[test]
fn good_servers_have_no_findings() {
    assert_eq!(Case::good().findings(), []);
    assert_eq!(Case::shaped().findings(), []);
    let mut case = Case::good();
    for state in [OutsideState::PgDumpGood, OutsideState::PgBouncerGood, OutsideState::BrokerGood] {
        case.outside(state);
    }
    assert_eq!(case.findings(), []);
}

#[test]
fn each_fault_is_found_under_its_code() {
    for (code, start, spoil) in spoiled() {
        let mut case = start();
        spoil(&mut case);
        assert!(case.codes().contains(*code), "{code} not in {:?}", case.codes());
    }
}

#[test]
fn every_check_is_seen_to_fire_and_listed_once() {
    let codes: BTreeSet<&str> = checks().map(|check| check.code).collect();
    assert_eq!(codes.len(), checks().count());
    let fired: BTreeSet<&str> = spoiled().map(|(code, ..)| *code).collect();
    assert_eq!(codes, fired);
}

#[test]
fn the_worst_comes_first() {
    let mut case = Case::good();
    case.blue().version_num = 140_010;
    case.set("wal_level", "replica");
    case.blue().slots = vec![slot("debezium")];
    let severities: Vec<Severity> = case.findings().into_iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Blocking, Severity::Warning, Severity::Info]);
}

#[test]
fn what_is_ours_is_no_obstacle() {
    let mut case = Case::good();
    case.attempt_on();
    case.blue().ours = Some(Ours { plan: Some("tokens".into()), ..Ours::default() });
    case.blue().slots = vec![Slot { active: true, ..slot("migrate_tokens_1") }];
    case.blue().publications = vec!["migrate_tokens".into()];
    case.green().tables = vec![Table { has_rows: Some(true), ..table("token") }];
    case.blue().prepared_transactions =
        vec![PreparedTransaction { gid: "g".into(), database: "other".into(), age_ms: 1 }];
    assert_eq!(case.findings(), []);
}

#[test]
fn near_misses_do_not_fire() {
    let quiet: [fn(&mut Case); 11] = [
        // A waiver is a decision.
        |c| {
            c.set("max_slot_wal_keep_size", "-1");
            c.plan.replicate.allow_unbounded_wal = true;
        },
        |c| {
            c.plan.broker.as_mut().unwrap().allow_single_node = true;
            c.outside(OutsideState::BrokerSingleNode);
        },
        // FULL with a key of its own is as good as the key.
        |c| c.token().identity = ReplicaIdentity::Full,
        // A partitioned parent has no rows, so needs no identity.
        |c| {
            let parent = Table { kind: TableKind::Partitioned, indexes: Vec::new(), ..table("all") };
            c.blue().tables.push(parent);
            c.token().parent = Some(name("all"));
            c.token().is_partition = true;
        },
        // A reader in another database waits for nothing.
        |c| {
            c.blue().long_transactions = vec![LongTransaction { writes: false, ..long_transaction() }];
        },
        |c| c.blue().slots = vec![Slot { database: Some("other".into()), ..slot("debezium") }],
        // Superusers need no grants.
        |c| {
            c.blue().role = RoleFacts { superuser: true, sees_all_sessions: true, ..RoleFacts::default() };
            c.green().role = RoleFacts { superuser: true, ..RoleFacts::default() };
            c.blue().forced_row_security = vec![name("token")];
        },
        // A cycling sequence never ends, and a descending one ends at its other end.
        |c| {
            let cycling = Sequence { cycle: true, ..sequence(i64::MAX) };
            let falling = Sequence { increment: -1, min: -1_000_000, max: -1, ..sequence(-1) };
            c.blue().sequences = vec![cycling, falling];
        },
        // Clocks of the same second, and C, which has no version.
        |c| {
            c.blue().clock_ahead_ms = 86_400_000;
            c.green().clock_ahead_ms = 86_400_900;
            c.green().collation.version = Some("2.41".into());
        },
        |c| {
            c.blue().text_ranges = vec![name("token")];
            c.blue().roles_named = [("reader".to_owned(), "owns objects".to_owned())].into();
            c.green().roles = vec!["reader".into()];
        },
        // LATIN1 goes into UTF8 whole.
        |c| c.blue().encoding = "LATIN1".into(),
    ];
    for (at, change) in quiet.into_iter().enumerate() {
        let mut case = Case::good();
        change(&mut case);
        assert_eq!(case.findings(), [], "near miss {at}");
    }
}

#[test]
fn an_in_place_plan_is_not_asked_for_what_copying_needs() {
    let mut case = Case::good();
    case.plan.kind = crate::plan::MigrationKind::InPlace;
    case.set("wal_level", "replica");
    case.token().indexes.clear();
    assert_eq!(case.findings(), []);
    case.blue().in_recovery = true;
    assert!(case.codes().contains("NOT_PRIMARY"));
}

#[test]
fn without_facts_no_rule_speaks() {
    assert_eq!(run(&Case::good().plan, &Facts::default()), []);
}

#[test]
fn the_page_has_every_check() {
    let page = reference();
    for check in checks() {
        assert!(page.contains(&format!("\n## {}\n", check.code)), "{}", check.code);
        assert!(check.looks_at.ends_with('.') && !check.remedy.ends_with('.'), "{}", check.code);
        assert!(!check.source.is_empty(), "{}", check.code);
    }
}
