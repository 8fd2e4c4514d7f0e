//! The shape of a plan. The doc comments are the plan reference and the JSON Schema.

use super::quantity::{Size, Span};
use crate::pg::name::{Ident, TableName};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A migration, from the database we leave (blue) to the one we go to (green), or in place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format: 1.
    pub version: u32,
    /// Names the migration. Lower-case letters, digits and `-`; at most 40 characters. It becomes part of slot and queue names.
    pub name: String,
    /// `in_place`: DDL made online and run on blue. `blue_green`: copy, follow, and switch to green.
    pub kind: MigrationKind,
    /// The name of another plan that must be done before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The database we leave; for `in_place`, the only one.
    pub blue: Database,
    /// The database we go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<Database>,
    /// The RabbitMQ broker that holds captured revocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
    /// Where green's schema comes from, and the SQL that changes it.
    #[serde(default)]
    pub schema: SchemaSource,
    /// What is copied and followed, and how.
    #[serde(default)]
    pub replicate: Replicate,
    /// What counts as a revocation, and what it does to green.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<RevocationRule>,
    /// Settings outside the databases that are changed for the window and put back after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The switch.
    #[serde(default)]
    pub cutover: Cutover,
}

/// The two kinds of migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationKind {
    /// DDL made online and run on blue itself.
    InPlace,
    /// Copy to green, follow, switch.
    BlueGreen,
}

/// How to reach a database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// A libpq connection string, `postgresql://user@host/db?…` or `host=… dbname=…`. Keep passwords in `${ENV}`, a passfile or a service.
    pub url: Secret,
}

/// The RabbitMQ broker.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`.
    pub url: Secret,
    /// 32 bytes in hex or base64 that seal the messages; without it only keys travel, in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<Secret>,
    /// Accept a broker of one node, where a lost disk loses the queue.
    #[serde(default)]
    pub allow_single_node: bool,
}

/// Where green's schema comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaSource {
    /// `blue`: clone blue's schema with pg_dump first. `none`: green has its schema already, or `sql` makes it.
    #[serde(default)]
    pub from: SchemaFrom,
    /// SQL files, in order, relative to the plan; `*` is expanded in name order. In place: what to run online. Blue-green: run on green before any row is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
}

/// Where green's schema comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaFrom {
    /// Clone blue's schema with pg_dump.
    #[default]
    Blue,
    /// Green has its schema, or the plan's SQL makes it.
    None,
}

/// What is copied and followed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replicate {
    /// `stream`: lossless. `snapshot`: only the copy; revocations alone are carried after it.
    pub mode: ReplicateMode,
    /// Which tables. All of `public` by default.
    pub tables: TableSelection,
    /// Blue's shape to green's shape, per table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, TableMap>,
    /// Copy workers; by default as many as this machine has cores, at least 2 and at most 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// The most WAL we let our slot hold on blue; past it we drop the slot and stop: blue survives first.
    pub retained_wal_max: Size,
    /// Begin although blue's `max_slot_wal_keep_size` is unlimited: when migrate dies and nobody looks, blue's disk fills.
    pub allow_unbounded_wal: bool,
}

impl Default for Replicate {
    fn default() -> Replicate {
        Replicate {
            mode: ReplicateMode::Stream,
            tables: TableSelection::default(),
            map: BTreeMap::new(),
            workers: None,
            retained_wal_max: Size(20 << 30),
            allow_unbounded_wal: false,
        }
    }
}

/// How rows get to green after the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicateMode {
    /// Every write of blue is carried.
    Stream,
    /// Only the copy; after it, revocations alone.
    Snapshot,
}

/// Tables by pattern: `schema.table`, with `*` for any run of characters.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableSelection {
    /// Taken in.
    pub include: Vec<String>,
    /// Left out, even when included.
    pub exclude: Vec<String>,
}

impl Default for TableSelection {
    fn default() -> TableSelection {
        TableSelection { include: vec!["public.*".into()], exclude: Vec::new() }
    }
}

impl TableSelection {
    /// Whether a table is included and not excluded.
    pub fn selects(&self, table: &TableName) -> bool {
        let plain = table.plain();
        let hit = |patterns: &[String]| patterns.iter().any(|pattern| glob(pattern, &plain));
        hit(&self.include) && !hit(&self.exclude)
    }
}

/// Matches `*` (any run) and everything else literally.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]).any(|rest| glob(tail, rest))
        }),
    }
}

/// How one table of blue becomes one of green.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableMap {
    /// Green column to SQL expression over blue's columns, evaluated on green.
    pub columns: BTreeMap<String, String>,
    /// The table on green, if it is called otherwise there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<TableName>,
}

/// What counts as a revocation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationRule {
    /// Names the rule in messages and reports.
    pub name: String,
    /// The table of blue whose changes are looked at.
    pub table: TableName,
    /// Which changes are revocations.
    pub when: RevocationWhen,
    /// The columns that name the revoked row. They must be part of the table's replica identity.
    pub key: Vec<Ident>,
    /// What the revocation does to green.
    pub replay: ReplayEffect,
    /// A query on green, `$1`… being the key columns as text, that finds a row while the revoked thing is still valid. It must find nothing at the end.
    pub valid: String,
}

/// Which changes are revocations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationWhen {
    /// The kind of change.
    pub op: ChangeOp,
    /// SQL over the old row. An old value that blue's WAL does not carry counts as a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// SQL over the new row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Not a revocation when the same transaction also makes this change: a token rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless_same_tx: Option<SameTx>,
}

/// A change of the same table in the same transaction, with the same value in one column.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SameTx {
    /// The kind of the other change.
    pub op: ChangeOp,
    /// The column that must be equal in both.
    #[serde(rename = "match")]
    pub match_column: Ident,
}

/// A kind of row change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

/// What a revocation does to green: exactly one of the two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayEffect {
    /// Delete the row with that key from this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<TableName>,
    /// Set columns of the row with that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<ReplayUpdate>,
}

/// Columns to set on the revoked row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayUpdate {
    /// The table of green.
    pub table: TableName,
    /// Column to constant SQL expression.
    pub set: BTreeMap<String, String>,
}

/// Settings changed for the window and put back after it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// In order; put back in reverse.
    pub adjust: Vec<Adjustment>,
}

/// One setting: a command that changes it, and one that puts it back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Its name.
    pub name: String,
    /// Changes it.
    pub apply: Command,
    /// Puts it back.
    pub restore: Command,
}

/// A program and its arguments; no shell.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program first.
    pub command: Vec<String>,
}

/// The switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cutover {
    /// The longest clients may be held; if the fence is not up by then, everything goes back and they go on.
    pub pause_max: Span,
    /// What sends clients to blue or green.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Conditions that must hold before the pause.
    pub gates: Vec<Gate>,
    /// The oldest open transaction on blue we begin with.
    pub transaction_age_max: Span,
    /// What sequences on green are moved past blue's value by, in steps of their increment.
    pub sequence_gap: u32,
    /// The watched time after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Soak>,
    /// Keeps blue supplied with green's writes, for a rollback after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse: Option<Reverse>,
}

impl Default for Cutover {
    fn default() -> Cutover {
        Cutover {
            pause_max: Span(std::time::Duration::from_secs(5)),
            route: None,
            gates: Vec::new(),
            transaction_age_max: Span(std::time::Duration::from_secs(10)),
            sequence_gap: 1000,
            soak: None,
            reverse: None,
        }
    }
}

/// What sends clients to blue or green: exactly one of the two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Every PgBouncer instance in front of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<Vec<PgBouncer>>,
    /// Commands of the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<RouteCommand>,
}

/// One PgBouncer instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgBouncer {
    /// Connection string of the admin console: `host=… port=6432 user=… dbname=pgbouncer`.
    pub admin: Secret,
    /// The entry under `[databases]` that clients connect to.
    pub database: String,
    /// Path of its configuration file on this machine.
    pub config: String,
    /// Where green is, as this pooler reaches it: `host=… port=… dbname=…`; nothing else of the entry changes.
    pub to: String,
}

/// Commands that move clients. Each gets `MIGRATE_PLAN` and `MIGRATE_EPOCH` in its environment, must be idempotent, and has `deadline` to finish.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteCommand {
    /// Holds clients.
    pub pause: Vec<String>,
    /// Sends them to green.
    pub to_green: Vec<String>,
    /// Sends them to blue.
    pub to_blue: Vec<String>,
    /// Lets them go on.
    pub resume: Vec<String>,
    /// Exits 0 when clients are sent to green.
    pub prove: Vec<String>,
    /// How long each may take.
    pub deadline: Span,
}

/// A condition: exactly one of `lag_max`, `sql`, `http`, `command`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The most bytes of WAL green may be behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_max: Option<Size>,
    /// A query of one row and one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The side `sql` runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Side>,
    /// What `sql` must return, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// A URL to get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The status `http` must answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A program that must exit 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// Blue or green.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The database we leave.
    Blue,
    /// The database we go to.
    Green,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Blue => "blue",
            Side::Green => "green",
        })
    }
}

/// The watched time after the switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Soak {
    /// How long.
    #[serde(rename = "for")]
    pub length: Span,
    /// How often the gates are looked at.
    pub every: Span,
    /// Conditions.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What a failing gate does.
    pub on_failure: SoakFailure,
}

/// What a failing gate does during the soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoakFailure {
    /// Stop and say so; green stays open.
    Stop,
    /// Ask the operator.
    Ask,
    /// Go back to blue over the reverse stream.
    Rollback,
}

/// Green's writes carried back to blue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// How long after the switch.
    pub keep: Span,
}

/// A string that may hold a secret. It is never shown: not by `Debug`, not in a saved plan or a fingerprint.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(#[schemars(with = "String")] SecretString);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(SecretString::from(text.into()))
    }

    /// The string itself. Use it to connect, and for nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("«secret»")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("«secret»")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_selected_by_pattern() {
        let selection = TableSelection {
            include: vec!["public.*".into(), "app.t_*_x".into()],
            exclude: vec!["public.schema_migration".into()],
        };
        assert!(selection.selects(&TableName::new("public", "a")));
        assert!(!selection.selects(&TableName::new("public", "schema_migration")));
        assert!(selection.selects(&TableName::new("app", "t_1_x")));
        assert!(!selection.selects(&TableName::new("app", "t_1_y")));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let database = Database { url: Secret::new("postgresql://u:hunter2@h/db") };
        assert!(!format!("{database:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&database).unwrap().contains("hunter2"));
    }
}
