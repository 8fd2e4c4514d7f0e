//! What expressions over a schema rest on: functions, domains, the views that hold columns fast, and what has no equality.

use crate::pg::name::{Ident, TableName};
use serde::{Deserialize, Serialize};

/// What a function may answer to the same arguments (`provolatile`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatility {
    /// Always the same.
    Immutable,
    /// The same within a statement.
    Stable,
    /// Anything.
    Volatile,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: TableName,
    /// The type under it, as `format_type` writes it.
    pub base: String,
    /// It, or a domain under it, has a CHECK, NOT NULL or a default.
    pub constrained: bool,
}

/// A column that a view or rule uses, so that its type cannot change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewedColumn {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub column: Ident,
    /// The view, or the relation the rule belongs to.
    pub view: TableName,
}
