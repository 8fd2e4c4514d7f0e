//! What of a directory does not run, and why: nothing is skipped without a word.

use super::{Listing, Tool};
use crate::finding::{Finding, Severity};
use std::collections::BTreeMap;

/// Why a file does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It is for another database.
    OtherDatabase,
    /// It takes a migration back.
    Undoes,
    /// A file for this database has the same version.
    Outranked,
    /// For an empty database only.
    Baseline,
    /// The tool runs it around migrations.
    Callback,
    /// Its name is not one the tool reads.
    Unnamed,
    /// It is in a directory the tool does not look into.
    Deeper,
}

impl Why {
    fn words(self) -> &'static str {
        match self {
            Why::Undoes => "take migrations back",
            Why::OtherDatabase => "are for other databases",
            Why::Outranked => "give way to a file of the same version that is for PostgreSQL alone",
            Why::Baseline => "are baselines, which only an empty database gets",
            Why::Callback => "are callbacks, which the tool runs around its migrations",
            Why::Unnamed => "have names the tool does not read",
            Why::Deeper => "are in directories the tool does not look into",
        }
    }

    /// Whether somebody may have meant it to run.
    fn severity(self) -> Severity {
        match self {
            Why::Undoes | Why::OtherDatabase | Why::Outranked | Why::Baseline => Severity::Info,
            Why::Callback | Why::Unnamed | Why::Deeper => Severity::Warning,
        }
    }
}

/// The files that do not run, by reason.
#[derive(Debug, Default)]
pub(super) struct LeftOut(BTreeMap<Why, Vec<String>>);

/// How many files are named in a sentence.
const NAMED_MAX: usize = 3;

impl LeftOut {
    pub fn add(&mut self, why: Why, path: &str) {
        self.0.entry(why).or_default().push(path.to_owned());
    }

    /// The first reason, as half a sentence.
    pub fn first_reason(&self) -> Option<String> {
        self.0.iter().next().map(|(why, paths)| format!("{}: they {}", listed(paths), why.words()))
    }

    pub fn findings(&self, listing: &Listing, tool: Tool) -> Vec<Finding> {
        self.0
            .iter()
            .map(|(why, paths)| {
                let help = match why.severity() {
                    Severity::Info => "Nothing to do.".to_owned(),
                    _ => format!("If it is to run, name it {}; else move it away.", tool.pattern()),
                };
                let what = format!("{tool} does not run {}: they {}", listed(paths), why.words());
                listing.finding(why.severity(), "DDL_FILES_LEFT_OUT", what, help)
            })
            .collect()
    }
}

/// `3 files (a, b, c)`, `7 files (a, b, c, …)`.
fn listed(paths: &[String]) -> String {
    let mut names = paths.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED_MAX {
        names.push_str(", …");
    }
    format!("{} {} ({names})", paths.len(), if paths.len() == 1 { "file" } else { "files" })
}
