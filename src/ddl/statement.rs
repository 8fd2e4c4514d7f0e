//! What a rewriting gives: statements that can run on a live database, and what stands against the others.

use super::{lock::Cost, session::Settings};
use crate::{
    finding::{Finding, Place},
    pg::name::{Ident, TableName},
};
use serde::{Deserialize, Serialize};

/// The whole plan's DDL, online.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewritten {
    /// In the order they run.
    pub statements: Vec<Online>,
    /// In the order of the files. A blocking one means that nothing may run.
    pub findings: Vec<Finding>,
}

/// How a statement behaves towards those who use the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Touches only what this plan creates, or takes no lock anybody waits for.
    Catalog,
    /// A strong lock for a moment: short lock timeout, and again.
    Brief,
    /// A long piece of work beside readers and writers, outside a transaction.
    Concurrent,
    /// A long piece of work beside readers and writers, inside a transaction.
    Validate,
    /// Rows changed in batches, each batch in a short transaction of its own.
    Backfill,
}

/// What running clients notice, once it is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// Nothing.
    #[default]
    Unaffected,
    /// Statements prepared with `SELECT *`, `RETURNING *` or the changed column must be prepared again (0A000), and decoders
    /// that count columns meet another number.
    PreparedAgain,
    /// Statements that were right before fail, or mean something else.
    Broken,
}

/// A column that rows are walked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: Ident,
    /// Its type, as `format_type` writes it.
    pub type_name: String,
}

/// How a statement over many rows is cut into batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The table whose rows are walked, in the order of the key.
    pub table: TableName,
    /// Its primary key or another unique one; empty when nobody has looked, and then it cannot run.
    pub key: Vec<KeyColumn>,
    /// The statement up to where the range of a batch follows: `update … where (…) and `.
    pub head: String,
    /// What follows the range.
    pub tail: String,
    /// The name under which the statement speaks of the table, quoted.
    pub alias: String,
}

/// How a statement is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How long one try may wait for its locks; `None`: no limit, since a CONCURRENTLY form that is cancelled leaves an INVALID index.
    pub lock_timeout_ms: Option<u32>,
    /// How often, at most.
    pub tries: u32,
}

/// What shows that a statement's effect is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "holds", rename_all = "snake_case")]
pub enum Verify {
    /// An index of this shape exists and is valid.
    IndexValid(IndexShape),
    /// No such index is there.
    IndexAbsent {
        /// The index.
        index: TableName,
    },
    /// The index, or every index of the table, is another one than before, and valid.
    Rebuilt {
        /// What was rebuilt.
        relation: TableName,
        /// The relation is a table.
        whole_table: bool,
    },
    /// A record of ours, written in the transaction that renames an index.
    IndexRenamed {
        /// The old name.
        from: TableName,
        /// The new one.
        to: TableName,
    },
    /// The one is no partition of the other any more.
    Detached {
        /// The partitioned table.
        parent: TableName,
        /// What was its partition.
        partition: TableName,
    },
    /// A record of ours, written after the statement: what it does leaves no trace, and doing it twice harms nothing.
    Ran,
    /// A record of ours, written in the statement's own transaction.
    Recorded {
        /// An index that must be valid from here on: a partitioned one whose last part this attaches.
        valid: Option<TableName>,
    },
    /// A record of ours, and the constraint, as long as it is there, is proved for all rows (`convalidated`).
    ConstraintValid {
        /// Its table.
        table: TableName,
        /// The constraint.
        constraint: Ident,
    },
    /// A record of ours, and the column, as long as it is there, is NOT NULL (`attnotnull`).
    NotNull {
        /// Its table.
        table: TableName,
        /// The column.
        column: Ident,
    },
    /// A record of ours that says that the last batch is through.
    BatchesDone,
}

/// What an index looks like, as far as the catalog can be compared with the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexShape {
    /// Its name.
    pub index: TableName,
    /// Its table.
    pub table: TableName,
    /// Unique.
    pub unique: bool,
    /// Access method.
    pub method: String,
    /// Key columns in order; `None` for an expression.
    pub keys: Vec<Option<Ident>>,
    /// Has a predicate.
    pub partial: bool,
    /// Any valid index of this name will do (IF NOT EXISTS).
    pub any_shape: bool,
}

/// How a statement is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Undo {
    /// Dropping the index it made, concurrently.
    DropIndex {
        /// The index.
        index: TableName,
    },
    /// Building again, concurrently, the index it dropped, from the definition noted before.
    RecreateIndex {
        /// The index.
        index: TableName,
    },
    /// A brief statement of its own.
    Brief {
        /// The statement.
        sql: String,
    },
    /// Nothing: the effect cannot be seen by anyone.
    Nothing,
}

/// A statement that may run on a live database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Online {
    /// Stable name of its step: `ddl/create-index-t_a_idx`.
    pub id: String,
    /// What runs, without semicolon.
    pub sql: String,
    /// The schemas in which its unqualified names are looked up.
    pub search_path: Vec<Ident>,
    /// What SET in the operator's file gave it besides.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// What the operator wrote.
    pub from: Vec<Place>,
    /// What it does, one line in the imperative.
    pub title: String,
    /// How it behaves.
    pub class: Class,
    /// What it costs the others.
    pub cost: Cost,
    /// What the original would have cost them, when it was changed.
    pub was: Option<Cost>,
    /// Runs inside a transaction of its own.
    pub transactional: bool,
    /// The rule that made it.
    pub recipe: String,
    /// Why it is so, one sentence.
    pub why: String,
    /// How it is tried.
    pub retry: Retry,
    /// What shows that it is done.
    pub verify: Verify,
    /// How it is taken back; `None`: it cannot.
    pub undo: Option<Undo>,
    /// What running clients notice.
    #[serde(default)]
    pub clients: Clients,
    /// How it is cut into batches, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
}

impl Retry {
    /// For a strong lock held a moment.
    pub const BRIEF: Retry = Retry { lock_timeout_ms: Some(1_000), tries: 60 };
    /// For a CONCURRENTLY form.
    pub const CONCURRENT: Retry = Retry { lock_timeout_ms: None, tries: 3 };
    /// For one batch of many.
    pub const BATCH: Retry = Retry { lock_timeout_ms: Some(5_000), tries: 20 };
}

impl Rewritten {
    /// Whether nothing stands against running it.
    pub fn may_run(&self) -> bool {
        !crate::finding::any_blocking(&self.findings)
    }
}
