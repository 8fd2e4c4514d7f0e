//! What counts as a revocation, and what it does to green.

use crate::pg::name::{Ident, TableName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
