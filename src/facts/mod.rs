//! What was seen on the servers: pure data, saved to and read from a JSON file.
//!
//! Reading it is [`crate::pg::catalog`]'s work; judging it is [`crate::check`]'s.

mod expression;
mod key;
mod locale;
mod objects;
mod outside;
mod shape;
mod writes;

pub use expression::{Domain, ViewedColumn, Volatility};
pub use key::{Constraint, ConstraintKind, Index};
pub use locale::Collation;
pub use objects::{
    Bound, Objects, PartitionStrategy, Partitioned, Statistics, Trigger, TypeKind, Use, UserType, View,
};
pub use outside::{OutsideFact, OutsideState};
pub use shape::{ShapeChanges, ShapeKind, ShapeLine, compare as compare_shapes};
pub use writes::{TableWrites, Writes, WritesSeen, per_minute};

use crate::pg::{
    lsn::Lsn,
    name::{Ident, TableName},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything a runbook is built from, besides the plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Blue, when it was looked at.
    pub blue: Option<ServerFacts>,
    /// Green, when it was looked at.
    pub green: Option<ServerFacts>,
    /// Proved by an advisory lock taken on one and seen on the other.
    #[serde(default)]
    pub same_database: bool,
    /// Programs and services besides the two databases, as they were seen.
    #[serde(default)]
    pub outside: Vec<OutsideFact>,
    /// The names we are about to use on the servers; empty when they are not known yet.
    #[serde(default)]
    pub names: OurNames,
    /// What is written to blue's tables; read in `mode: snapshot`, which does not carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<WritesSeen>,
}

/// The names of ours that must be free, or ours already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OurNames {
    /// Replication slots on blue.
    pub slots: Vec<String>,
    /// Publications on blue.
    pub publications: Vec<String>,
}

/// One database and its server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerFacts {
    /// As `server_version_num`: 150020.
    pub version_num: u32,
    /// From `pg_control_system()`; as text, since it does not fit JSON's numbers.
    pub system_identifier: String,
    /// From `pg_control_checkpoint()`.
    pub timeline: u32,
    /// `current_database()`.
    pub database: String,
    /// Its oid.
    pub database_oid: u32,
    /// Its encoding, e.g. `UTF8`.
    pub encoding: String,
    /// How its texts are sorted.
    #[serde(default)]
    pub collation: Collation,
    /// Partitioned tables whose ranges are cut along the database's order of texts, sorted.
    #[serde(default)]
    pub text_ranges: Vec<TableName>,
    /// By how much the server's clock is ahead of ours, give or take half a round trip.
    #[serde(default)]
    pub clock_ahead_ms: i64,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// The role we are.
    pub role: RoleFacts,
    /// The roles of the server, sorted.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Roles that objects of this database name, and how: `owns objects`, `is granted rights`, `is named by a policy`.
    #[serde(default)]
    pub roles_named: BTreeMap<String, String>,
    /// `pg_settings`, as far as a check reads them.
    pub settings: BTreeMap<String, String>,
    /// What `alter database … set` and `alter role … in database … set` say: `search_path`, `role app: search_path`.
    #[serde(default)]
    pub database_settings: BTreeMap<String, String>,
    /// Event triggers that are enabled, extensions' left out, sorted.
    #[serde(default)]
    pub event_triggers: Vec<String>,
    /// Relations outside the system schemas, extensions' and ours left out; sorted by name.
    pub tables: Vec<Table>,
    /// Sequences, sorted by name.
    pub sequences: Vec<Sequence>,
    /// Materialized views, sorted by name.
    pub materialized_views: Vec<TableName>,
    /// Views, sorted by name.
    #[serde(default)]
    pub views: Vec<TableName>,
    /// Tables whose policies bind their owner too (FORCE ROW LEVEL SECURITY), sorted.
    #[serde(default)]
    pub forced_row_security: Vec<TableName>,
    /// Functions outside pg_catalog, by `schema.name`: the worst volatility of those that share the name.
    #[serde(default)]
    pub functions: BTreeMap<String, Volatility>,
    /// Domains, sorted by name.
    #[serde(default)]
    pub domains: Vec<Domain>,
    /// Columns that views and rules use, sorted.
    #[serde(default)]
    pub viewed_columns: Vec<ViewedColumn>,
    /// Tables of which an UPDATE fires triggers of the user's, sorted by name.
    #[serde(default)]
    pub update_triggers: Vec<TableName>,
    /// What rests on the tables: views, triggers, partition bounds, types.
    pub objects: Objects,
    /// Extensions: name and version.
    pub extensions: BTreeMap<String, String>,
    /// Extensions whose scripts the server has on disk: name and default version.
    pub available_extensions: BTreeMap<String, String>,
    /// Schemas of the user's, sorted.
    pub schemas: Vec<Ident>,
    /// Replication slots of the whole server.
    pub slots: Vec<Slot>,
    /// Names of publications in this database.
    pub publications: Vec<String>,
    /// Names of enabled subscriptions in this database.
    pub subscriptions: Vec<String>,
    /// Walsenders in use.
    pub senders_used: u32,
    /// Client connections in use, ours included.
    #[serde(default)]
    pub connections_used: u32,
    /// Large objects in this database.
    pub large_objects: u64,
    /// Prepared transactions of the whole server.
    pub prepared_transactions: Vec<PreparedTransaction>,
    /// Sessions with an open transaction older than a second, oldest first, ours left out.
    pub long_transactions: Vec<LongTransaction>,
    /// Standbys connected to this server.
    pub standbys: Vec<String>,
    /// Digest of the replicated shape (columns, constraints, indexes, triggers, enums); compared with the same side's earlier one only.
    pub ddl_fingerprint: String,
    /// What [`ServerFacts::ddl_fingerprint`] is the digest of; read only for a plan that goes on with harmless changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<ShapeLine>,
    /// End of WAL when we looked.
    pub wal_insert_lsn: Option<Lsn>,
    /// What we left here ourselves, when schema `migrate` exists.
    #[serde(default)]
    pub ours: Option<Ours>,
}

/// What schema `migrate` on a server says. All `None` when a schema of that name is there that is not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ours {
    /// The side this database was given: `blue` or `green`.
    pub side: Option<String>,
    /// The plan that it was given it by.
    pub plan: Option<String>,
    /// The random name of this side.
    pub nonce: Option<String>,
    /// The attempt that is on, on green.
    pub attempt: Option<u32>,
}

impl ServerFacts {
    /// The major version: 15.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// A table by name.
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == *name)
    }
}

/// What our role may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFacts {
    /// `session_user`.
    pub name: String,
    /// Is a superuser.
    pub superuser: bool,
    /// Has REPLICATION.
    pub replication: bool,
    /// Has BYPASSRLS.
    pub bypass_rls: bool,
    /// May create schemas in this database.
    pub create_in_database: bool,
    /// May set `session_replication_role`.
    pub replica_role: bool,
    /// Sees other roles' sessions (`pg_read_all_stats`); without it old transactions of others stay hidden.
    #[serde(default)]
    pub sees_all_sessions: bool,
}

/// A table, partitioned table or partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Plain, partitioned or foreign.
    pub kind: TableKind,
    /// Logged, unlogged or temporary.
    pub persistence: Persistence,
    /// Columns in order, dropped ones left out.
    pub columns: Vec<Column>,
    /// What WAL carries of an old row.
    pub identity: ReplicaIdentity,
    /// Indexes, sorted by name.
    pub indexes: Vec<Index>,
    /// Constraints, sorted by name.
    pub constraints: Vec<Constraint>,
    /// User triggers and rules enabled for replica sessions or always.
    pub replica_triggers: Vec<Ident>,
    /// The partitioned table or inheritance parent this belongs to.
    pub parent: Option<TableName>,
    /// Whether `parent` is a partitioned table's, rather than plain inheritance.
    pub is_partition: bool,
    /// Whether policies may hide rows from our role: `row_security_active`, so of an owner only when they are forced.
    pub row_security: bool,
    /// Whether our role owns it, directly or through membership.
    pub owned_by_us: bool,
    /// Whether our role may SELECT from it.
    pub readable: bool,
    /// Heap, TOAST and indexes, in bytes.
    pub total_bytes: u64,
    /// Heap and TOAST, in bytes.
    pub heap_bytes: u64,
    /// The planner's estimate; never exact, -1 when never analyzed.
    pub rows_estimate: i64,
    /// Whether there is a row at all; asked of green's selected tables, and of blue's small ones.
    pub has_rows: Option<bool>,
}

impl Table {
    /// The primary key's columns, when there is one that is valid.
    pub fn primary_key(&self) -> Option<&Index> {
        self.indexes.iter().find(|index| index.primary && index.valid)
    }

    /// The columns that name a row in WAL and on green; empty when only the whole old row does, `None` when nothing does.
    ///
    /// A deferrable primary key is no identity (measured: UPDATE fails on blue once published). With FULL the whole old
    /// row is in WAL, and a unique key of it finds the row on green. Without one the row is looked for by all its
    /// values: as a key they would not do, since NULL equals nothing and equal rows are several.
    pub fn key(&self) -> Option<Vec<Ident>> {
        let columns = |index: &Index| index.columns.clone();
        match &self.identity {
            ReplicaIdentity::Default => self.primary_key().filter(|index| index.immediate).map(columns),
            ReplicaIdentity::Index(name) => self
                .indexes
                .iter()
                .find(|index| index.name == *name && index.valid && index.immediate)
                .map(columns),
            ReplicaIdentity::Full => {
                let mut unique = self.indexes.iter().filter(|index| self.names_one_row(index));
                let primary = unique.clone().find(|index| index.primary);
                Some(primary.or_else(|| unique.next()).map(columns).unwrap_or_default())
            }
            ReplicaIdentity::Nothing => None,
        }
    }

    /// Whether an index finds at most one row for the values of its columns, at any moment of a transaction.
    pub(crate) fn names_one_row(&self, index: &Index) -> bool {
        let not_null =
            |name: &Ident| self.columns.iter().any(|column| column.name == *name && column.not_null);
        index.unique && index.valid && index.plain && index.immediate && index.columns.iter().all(not_null)
    }
}

/// What kind of relation a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Rows of its own.
    Plain,
    /// A partitioned table: rows are in its leaves.
    Partitioned,
    /// A foreign table.
    Foreign,
}

/// How a table survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Logged.
    Permanent,
    /// Not in WAL, so never decoded.
    Unlogged,
}

/// What WAL carries of an old row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// The columns of an index.
    Index(Ident),
    /// The whole row.
    Full,
    /// Nothing.
    Nothing,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// As `format_type` writes it.
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
    /// The default's expression.
    pub default: Option<String>,
    /// Never written by us when generated.
    pub generated: Generated,
    /// Identity column.
    pub identity: IdentityColumn,
    /// What else it has, as statements that give it to a column of its name: comment, privileges, statistics target and
    /// options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub besides: Vec<String>,
}

/// Whether a column is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    /// A plain column.
    No,
    /// Computed and stored.
    Stored,
    /// Computed when read (18).
    Virtual,
}

/// Whether a column is an identity column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityColumn {
    /// It is not.
    No,
    /// GENERATED BY DEFAULT.
    ByDefault,
    /// GENERATED ALWAYS: needs OVERRIDING SYSTEM VALUE.
    Always,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its name.
    pub name: TableName,
    /// The column that owns it.
    pub owner: Option<(TableName, Ident)>,
    /// `data_type`: smallint, integer or bigint.
    pub data_type: String,
    /// Increment.
    pub increment: i64,
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// Values a session takes at a time.
    pub cache: i64,
    /// Starts over at the end.
    pub cycle: bool,
    /// Last value handed out, when ever called.
    pub last_value: Option<i64>,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Its database; `None` for a physical slot.
    pub database: Option<String>,
    /// Somebody reads it now.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Up to where its reader has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
}

/// A prepared (two-phase) transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedTransaction {
    /// Its global id.
    pub gid: String,
    /// Its database.
    pub database: String,
    /// How old.
    pub age_ms: u64,
}

/// A session with an open transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongTransaction {
    /// Its process on the server.
    pub pid: i32,
    /// Its database.
    pub database: String,
    /// Its role.
    pub role: String,
    /// What it calls itself.
    pub application: String,
    /// `active`, `idle in transaction`, …
    pub state: String,
    /// How old.
    pub age_ms: u64,
    /// Has written, so slot creation waits for it.
    pub writes: bool,
}
