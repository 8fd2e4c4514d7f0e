//! What rests on tables and falls or stands with them: views, triggers, partition bounds, statistics, types of the user's.

use crate::pg::name::{Ident, TableName};
use serde::{Deserialize, Serialize};

/// Everything that rests on tables, extensions' and ours left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// Views and materialized views, sorted by name.
    pub views: Vec<View>,
    /// User triggers, copies on partitions left out.
    pub triggers: Vec<Trigger>,
    /// Partitioned tables, sorted by name.
    pub partitioned: Vec<Partitioned>,
    /// Partitions, sorted by name.
    pub bounds: Vec<Bound>,
    /// Enums, domains, composite and range types, sorted by name.
    pub types: Vec<UserType>,
    /// Tables with a row security policy.
    pub policies: Vec<TableName>,
    /// Schemas that hold something besides tables, views and sequences.
    pub crowded_schemas: Vec<Ident>,
    /// Extended statistics, sorted by name.
    #[serde(default)]
    pub statistics: Vec<Statistics>,
}

/// A view or materialized view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Its name.
    pub name: TableName,
    /// Holds rows of its own.
    pub materialized: bool,
    /// A materialized view that REFRESH … CONCURRENTLY accepts: filled, with a unique index over plain columns and all rows.
    pub refreshable: bool,
    /// The statements that make it again as it is: the view, its owner, privileges, comments, defaults, triggers and rules.
    pub recreate: Vec<String>,
    /// What its query reads, directly.
    pub reads: Vec<Use>,
}

/// Columns of a relation that something needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// The relation.
    pub relation: TableName,
    /// The columns; none for the relation as a whole.
    pub columns: Vec<Ident>,
}

/// A user trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name.
    pub name: Ident,
    /// Its table or view.
    pub table: TableName,
    /// The function it runs.
    pub function: TableName,
}

/// Extended statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Their name.
    pub name: TableName,
    /// The table or materialized view they are about.
    pub table: TableName,
}

/// How a partitioned table is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitioned {
    /// Its name.
    pub name: TableName,
    /// By what.
    pub strategy: PartitionStrategy,
    /// The key's columns; none when an expression is among them.
    pub columns: Vec<Ident>,
    /// Its DEFAULT partition.
    pub default_partition: Option<TableName>,
    /// When it is a partition itself: what holds for all its rows, as a SQL expression.
    pub constraint: Option<String>,
}

/// The ways to cut a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionStrategy {
    /// PARTITION BY RANGE.
    Range,
    /// PARTITION BY LIST.
    List,
    /// PARTITION BY HASH.
    Hash,
}

/// A partition's bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The partition.
    pub partition: TableName,
    /// `FOR VALUES …` or `DEFAULT`.
    pub bound: String,
}

/// A type of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserType {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: TypeKind,
    /// Columns of it, of arrays of it, or of types made of it.
    pub used_by: Vec<Use>,
    /// Tables made OF it.
    pub typed_tables: Vec<TableName>,
}

/// The kinds of type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeKind {
    /// CREATE TYPE … AS ENUM.
    Enum,
    /// CREATE DOMAIN.
    Domain,
    /// CREATE TYPE … AS (…).
    Composite,
    /// CREATE TYPE … AS RANGE, its multirange, or a base type.
    Other,
}
