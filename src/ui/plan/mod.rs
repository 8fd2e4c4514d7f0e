//! What `migrate plan` shows: text for people, SQL for psql, Markdown for a pull request, SARIF for code scanning, JSON for
//! programs. Pure: a [`Shown`] in, a text out.

mod lost;
mod markdown;
mod original;
mod sample;
mod sarif;
mod sql;
mod tables;
mod text;
mod words;

use crate::{
    ddl::{Rewritten, SqlFile},
    finding::Finding,
    plan::MigrationKind,
    runbook::{View, copied::CopyList, lost_writes::LostWrites},
    step::sample_rows::Sample,
};
use serde::Serialize;

pub use markdown::markdown;
pub use sarif::sarif;
pub use sql::sql;
pub use text::{phase, text};

/// Everything `plan` shows; its JSON is a contract.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// The plan's name.
    pub plan: String,
    /// In place, or from blue to green.
    pub kind: MigrationKind,
    /// Without a look at blue its tables are not known: what names them names none, and there is no fingerprint.
    pub looked_at_blue: bool,
    /// Of the runbook, when there is one and everything it covers is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// All of them, those of the SQL included.
    pub findings: Vec<Finding>,
    /// The steps from blue to green.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<View>,
    /// The tables that are copied, when blue was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyList>,
    /// What green would not get, in `mode: snapshot`, when blue was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_writes: Option<LostWrites>,
    /// The statements in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ddl: Option<Rewritten>,
    /// Rows of mapped tables, with their values; only when they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// What was asked for: the plan file, or the directory.
    #[serde(skip)]
    pub path: String,
    /// What the operator wrote, to be quoted.
    #[serde(skip)]
    pub files: Vec<SqlFile>,
}

#[cfg(test)]
mod tests;
