//! The shape of a plan. The doc comments are the plan reference and the JSON Schema.

mod cutover;
mod on_ddl;
mod revocation;
mod secret;
mod throttle;

pub use crate::mapping::{Join, JoinSource, Merge, TableMap, TableMaps};
pub use cutover::{Cutover, Gate, PgBouncer, Reverse, Route, RouteCommand, Soak, SoakFailure};
pub use on_ddl::OnDdl;
pub use revocation::{ChangeOp, ReplayEffect, ReplayUpdate, RevocationRule, RevocationWhen, SameTx};
pub use secret::Secret;
pub use throttle::Throttle;

use super::quantity::{Size, Span};
use crate::pg::name::TableName;
use schemars::JsonSchema;
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

impl Plan {
    /// What an attempt is pinned to: all but the throttle, which may be changed while it runs.
    #[must_use]
    pub fn pinned(&self) -> Plan {
        let mut plan = self.clone();
        plan.replicate.throttle = Throttle::default();
        plan
    }

    /// Whether green stays as the copy made it, so that blue's later writes are lost but for revocations.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.kind == MigrationKind::BlueGreen && self.replicate.mode == ReplicateMode::Snapshot
    }
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
    /// SQL files, in order, relative to the plan; `*` is expanded in name order, and a directory of migrations is read as the tool that owns it reads it. In place: what to run online. Blue-green: run on green before any row is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
    /// `mode: snapshot` only: SQL files of the vendor, named as in `sql`, that run on green's copy, rows and all, before anybody uses it. Each file is one transaction, so a file that was cut short runs again from its beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_copy: Vec<String>,
    /// `views`: clients that know the tables as they were before `sql` find them so in a schema of views, `migrate_compat_NAME`, which they reach by `search_path`; `migrate finish` drops it.
    #[serde(default, skip_serializing_if = "Compat::is_none")]
    pub compat: Compat,
    /// In place: how long other sessions may wait for one run of `apply`, all their waits together; then it stops, and can be run again. `60s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brownout_max: Option<Span>,
}

/// What clients get that know the tables as they were before the plan's SQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Nothing: they must be able to live with the change.
    #[default]
    None,
    /// Updatable views with the old names, columns and types.
    Views,
}

impl Compat {
    // A plan without it has the fingerprint it always had.
    fn is_none(&self) -> bool {
        *self == Compat::None
    }
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
    /// `stream`: lossless. `snapshot`: green is as blue was at the copy's moment, and then changed by `schema.after_copy`; what blue writes after that moment is lost, except what `revocations` carry.
    pub mode: ReplicateMode,
    /// Which tables. All of `public` by default.
    pub tables: TableSelection,
    /// Blue's shape to green's shape, per table: one map, or a list of them for a table that is split over several of green's.
    /// Several tables of blue that are mapped `to` the same one say with `merge` how.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<TableName, TableMaps>,
    /// Tables of green each row of which is made of rows of several tables of blue, by a query. Green keeps a copy of those tables
    /// beside (schema `migrate_stage_NAME`, dropped by `migrate finish`), follows it, and makes anew what a change concerns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<TableName, Join>,
    /// Streams of rows at a time; by default as many as this machine has cores, at least 2 and at most 8, and no more than `max_worker_processes` of a green on another machine (4 when that is its default of 8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// What building indexes on green may use for sorting, all builds together. By default the larger of twice green's `maintenance_work_mem` and half its `shared_buffers`, the half up to 4GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_memory: Option<Size>,
    /// Which tables are copied in ranges of their key, each whole by itself, so that a copy that is cut goes on in the middle of one.
    pub chunks: Chunks,
    /// What the copy may cost blue.
    #[serde(skip_serializing_if = "Throttle::is_none")]
    pub throttle: Throttle,
    /// What happens when blue's tables are altered after the copy began; `stop` by default.
    #[serde(skip_serializing_if = "OnDdl::is_stop")]
    pub on_ddl: OnDdl,
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
            join: BTreeMap::new(),
            workers: None,
            build_memory: None,
            chunks: Chunks::default(),
            throttle: Throttle::default(),
            on_ddl: OnDdl::default(),
            retained_wal_max: Size(20 << 30),
            allow_unbounded_wal: false,
        }
    }
}

impl Replicate {
    /// Each map, with the table of blue that it is for.
    pub fn maps(&self) -> impl Iterator<Item = (&TableName, &TableMap)> {
        self.map.iter().flat_map(|(blue, maps)| maps.iter().map(move |map| (blue, map)))
    }

    /// The mapped tables of blue that become one together with others, by what that is called on green.
    pub fn merged(&self) -> BTreeMap<TableName, Vec<&TableName>> {
        let mut merged: BTreeMap<TableName, Vec<&TableName>> = BTreeMap::new();
        for (blue, map) in self.maps() {
            merged.entry(map.target(blue)).or_default().push(blue);
        }
        merged.retain(|_, tables| tables.len() > 1);
        merged
    }

    /// The table of green that a table of blue is joined into.
    pub fn joined_into(&self, blue: &TableName) -> Option<&TableName> {
        self.join.iter().find(|(_, join)| join.from.contains_key(blue)).map(|(green, _)| green)
    }

    /// The patterns as they are for green: what mapped tables are called there is taken in.
    pub fn tables_on_green(&self) -> TableSelection {
        let mapped = self.maps().map(|(blue, map)| map.target(blue));
        let targets: Vec<TableName> = mapped.chain(self.join.keys().cloned()).collect();
        let mut selection = self.tables.clone();
        selection.exclude.retain(|pattern| !targets.iter().any(|target| glob(pattern, &target.plain())));
        selection.include.extend(targets.iter().map(TableName::plain));
        selection
    }

    /// Whether a table of green is written to, by its name there.
    pub fn writes(&self, green: &TableName) -> bool {
        self.maps().any(|(blue, map)| map.target(blue) == *green)
            || self.join.contains_key(green)
            || self.writes_unmapped(green)
    }

    /// Whether a table is carried to one of its own name and shape.
    pub fn writes_unmapped(&self, table: &TableName) -> bool {
        self.tables.selects(table) && !self.map.contains_key(table) && self.joined_into(table).is_none()
    }
}

/// Which tables are copied in ranges of their key. It must be a primary key of one integer or uuid column, and nothing else
/// of the table may be unique; a table's rows then
/// come in the order of the key, and are not frozen, so smaller tables are better copied at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Chunks {
    /// Patterns of tables that are, whatever their size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Larger tables are, when their key allows it.
    pub above: Size,
    /// How much of a table is copied at a time.
    pub size: Size,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks { tables: Vec::new(), above: Size(64 << 30), size: Size(4 << 30) }
    }
}

impl Chunks {
    /// Whether the plan names a table.
    pub fn names(&self, table: &TableName) -> bool {
        let plain = table.plain();
        self.tables.iter().any(|pattern| glob(pattern, &plain))
    }
}

/// How rows get to green after the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicateMode {
    /// Every write of blue is carried.
    Stream,
    /// What blue had at one moment; of what it writes after that, revocations alone.
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
}
