//! Indexes and constraints of a table.

use crate::pg::name::{Ident, TableName};
use serde::{Deserialize, Serialize};

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Its name, in the table's schema.
    pub name: Ident,
    /// Key columns; expressions left out.
    pub columns: Vec<Ident>,
    /// `pg_get_indexdef`.
    pub definition: String,
    /// Unique.
    pub unique: bool,
    /// The primary key's.
    pub primary: bool,
    /// Checked at once, not at commit (`indimmediate`).
    pub immediate: bool,
    /// Usable (`indisvalid`).
    pub valid: bool,
    /// Has no predicate and no expression, so can be an identity if its columns are NOT NULL.
    pub plain: bool,
    /// Belongs to a constraint.
    pub constraint: Option<Ident>,
    /// The index of the table's parent that it is a part of.
    #[serde(default)]
    pub parent: Option<Ident>,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// Its name.
    pub name: Ident,
    /// Its kind.
    pub kind: ConstraintKind,
    /// `pg_get_constraintdef`.
    pub definition: String,
    /// Proved for all rows.
    pub validated: bool,
    /// Checked at commit when asked.
    pub deferrable: bool,
    /// The other table of a foreign key.
    pub references: Option<TableName>,
    /// The index that holds it; of a foreign key, the unique index of the other table that it rests on.
    #[serde(default)]
    pub index: Option<Ident>,
    /// Comes from the table's parent, so it cannot be dropped alone.
    #[serde(default)]
    pub inherited: bool,
}

/// The kinds of constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// CHECK.
    Check,
    /// FOREIGN KEY.
    ForeignKey,
    /// PRIMARY KEY.
    PrimaryKey,
    /// UNIQUE.
    Unique,
    /// EXCLUDE.
    Exclusion,
    /// NOT NULL as a constraint of its own (18).
    NotNull,
    /// Constraint trigger.
    Trigger,
}
