//! A pair of good servers and a good plan, for tests to spoil.

use crate::{
    check::run,
    facts::*,
    finding::Finding,
    mapping::{Join, JoinSource, TableMap},
    pg::name::{Ident, TableName},
    plan::{Plan, load::parse},
};
use std::collections::BTreeSet;

const PLAN: &str = "version: 1\nname: tokens\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\n\
    broker: { url: q }\nreplicate: { tables: { include: [\"public.*\"] } }\n\
    revocations:\n  - name: r\n    table: public.token\n    when: { op: delete }\n    key: [id]\n    \
    replay: { delete: public.token }\n    valid: select from public.token where id = $1\n";

pub fn name(table: &str) -> TableName {
    TableName::new("public", table)
}

pub fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: Ident::new(name),
        type_name: type_name.into(),
        not_null: true,
        default: None,
        generated: Generated::No,
        identity: IdentityColumn::No,
        besides: Vec::new(),
    }
}

/// A good table: `id bigint primary key, body text`.
pub fn table(table: &str) -> Table {
    let key = Index {
        name: Ident::new(format!("{table}_pkey")),
        columns: vec![Ident::new("id")],
        definition: String::new(),
        unique: true,
        primary: true,
        immediate: true,
        valid: true,
        plain: true,
        constraint: None,
        parent: None,
    };
    Table {
        name: name(table),
        kind: TableKind::Plain,
        persistence: Persistence::Permanent,
        columns: vec![column("id", "bigint"), column("body", "text")],
        identity: ReplicaIdentity::Default,
        indexes: vec![key],
        constraints: Vec::new(),
        replica_triggers: Vec::new(),
        parent: None,
        is_partition: false,
        row_security: false,
        owned_by_us: true,
        readable: true,
        total_bytes: 16384,
        heap_bytes: 8192,
        rows_estimate: 10,
        has_rows: None,
    }
}

pub fn refers(other: TableName) -> Constraint {
    Constraint {
        name: Ident::new("token_fk"),
        kind: ConstraintKind::ForeignKey,
        definition: String::new(),
        validated: true,
        deferrable: false,
        references: Some(other),
        index: None,
        inherited: false,
    }
}

pub fn sequence(last_value: i64) -> Sequence {
    Sequence {
        name: name("token_id_seq"),
        owner: Some((name("token"), Ident::new("id"))),
        data_type: "bigint".into(),
        increment: 1,
        min: 1,
        max: i64::MAX,
        cache: 1,
        cycle: false,
        last_value: Some(last_value),
    }
}

pub fn slot(name: &str) -> Slot {
    Slot {
        name: name.into(),
        plugin: Some("pgoutput".into()),
        database: Some("app".into()),
        active: false,
        wal_status: Some("reserved".into()),
        confirmed_flush_lsn: None,
    }
}

pub fn server(version_num: u32) -> ServerFacts {
    let role = RoleFacts {
        name: "mover".into(),
        replication: true,
        bypass_rls: true,
        create_in_database: true,
        replica_role: true,
        sees_all_sessions: true,
        ..RoleFacts::default()
    };
    let settings = [
        ("wal_level", "logical"),
        ("max_replication_slots", "10"),
        ("max_wal_senders", "10"),
        ("max_slot_wal_keep_size", "50GB"),
        ("max_connections", "100"),
        ("superuser_reserved_connections", "3"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
    ];
    ServerFacts {
        version_num,
        database: "app".into(),
        encoding: "UTF8".into(),
        role,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        extensions: [("plpgsql".to_owned(), "1.0".to_owned())].into(),
        available_extensions: [("plpgsql".to_owned(), "1.0".to_owned())].into(),
        connections_used: 5,
        ..ServerFacts::default()
    }
}

pub struct Case {
    pub plan: Plan,
    pub facts: Facts,
}

impl Case {
    /// A clone to come: blue has a token table, green is empty.
    pub fn good() -> Case {
        let mut blue = server(150_018);
        blue.tables = vec![table("token")];
        blue.sequences = vec![sequence(10)];
        let names =
            OurNames { slots: vec!["migrate_tokens_1".into()], publications: vec!["migrate_tokens".into()] };
        let facts = Facts { blue: Some(blue), green: Some(server(180_004)), names, ..Facts::default() };
        Case { plan: parse(PLAN, "plan.yaml", &|_| None).unwrap(), facts }
    }

    /// Green has its tables already.
    pub fn shaped() -> Case {
        let mut case = Case::good();
        case.plan.schema.from = crate::plan::SchemaFrom::None;
        case.green().tables = vec![Table { has_rows: Some(false), ..table("token") }];
        case
    }

    pub fn blue(&mut self) -> &mut ServerFacts {
        self.facts.blue.as_mut().unwrap()
    }

    pub fn green(&mut self) -> &mut ServerFacts {
        self.facts.green.as_mut().unwrap()
    }

    pub fn token(&mut self) -> &mut Table {
        &mut self.blue().tables[0]
    }

    pub fn green_token(&mut self) -> &mut Table {
        &mut self.green().tables[0]
    }

    pub fn set(&mut self, setting: &str, value: &str) {
        self.blue().settings.insert(setting.into(), value.into());
    }

    pub fn outside(&mut self, state: OutsideState) {
        self.facts.outside.push(OutsideFact { object: "thing".into(), state, detail: "seen so".into() });
    }

    pub fn map(&mut self, table: &str, map: TableMap) {
        self.plan.replicate.map.insert(name(table), map.into());
    }

    pub fn join(&mut self, green: &str, sources: &[&str]) {
        let source =
            |source: &&str| (name(source), JoinSource { key: vec!["id".into()], indexes: Vec::new() });
        let query =
            sources.iter().map(|source| format!("select id from public.{source}")).collect::<Vec<_>>();
        let join = Join {
            key: vec![Ident::new("id")],
            query: query.join(" union "),
            from: sources.iter().map(source).collect(),
        };
        self.plan.replicate.join.insert(name(green), join);
    }

    pub fn attempt_on(&mut self) {
        let ours = Ours { plan: Some("tokens".into()), attempt: Some(1), ..Ours::default() };
        self.green().ours = Some(ours);
    }

    pub fn findings(&self) -> Vec<Finding> {
        run(&self.plan, &self.facts)
    }

    pub fn codes(&self) -> BTreeSet<String> {
        self.findings().into_iter().map(|finding| finding.code).collect()
    }
}

pub fn long_transaction() -> LongTransaction {
    LongTransaction {
        pid: 7,
        database: "other".into(),
        role: "app".into(),
        application: String::new(),
        state: "idle in transaction".into(),
        age_ms: 60_000,
        writes: true,
    }
}
