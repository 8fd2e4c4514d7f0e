//! What a rehearsal tells.

use super::{
    clients::Break,
    columns::Change,
    measured::Measured,
    queries::Query,
    verdict::{Judgment, Verdict},
};
use crate::ddl::lock::Cost;
use crate::finding::{Finding, Place, Severity};
use serde::Serialize;

/// A rehearsal that came to its end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The plan's name.
    pub plan: String,
    /// The server: `host:port`, and its major.
    pub server: String,
    /// The statements, in order.
    pub statements: Vec<Rehearsed>,
    /// How many of the applications' queries were held prepared meanwhile.
    pub queries: usize,
    /// What the scratch database lacks, compared with blue.
    pub left_out: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// A statement that was run.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsed {
    /// Its step.
    pub id: String,
    /// What it does.
    pub title: String,
    /// What ran.
    pub sql: String,
    /// What the operator wrote.
    pub from: Vec<Place>,
    /// What it was said to cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Cost>,
    /// What it was seen to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// How that compares.
    pub verdict: Verdict,
    /// Why it is not a pass.
    pub faults: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Rehearsed {
    /// Takes a judgment over.
    pub fn judged(&mut self, judgment: Judgment) {
        self.verdict = judgment.verdict;
        self.faults = judgment.faults;
        self.notes = judgment.notes;
    }

    /// What stands against it, if anything does.
    pub fn finding(&self) -> Option<Finding> {
        let (code, help) = match self.verdict {
            Verdict::Pass | Verdict::Measured | Verdict::NotRun => return None,
            Verdict::Differs => (
                "REHEARSAL_DIFFERS",
                "Do not run it before the difference is understood; please report it, with `migrate rehearse --json`.",
            ),
            Verdict::Blocks => (
                "REHEARSAL_BLOCKS",
                "On a table with rows its clients would wait as long as that takes: take it out of the plan, or write it in another form.",
            ),
            Verdict::Refused => {
                ("REHEARSAL_REFUSED", "Correct the statement; what comes after it was not run.")
            }
        };
        Some(Finding {
            code: code.into(),
            severity: Severity::Blocking,
            place: self.place(),
            what: format!("`{}` {}", self.title, self.faults.join("; ")),
            help: help.into(),
        })
    }

    fn place(&self) -> Place {
        self.from.first().cloned().unwrap_or_else(|| Place::Outside { object: self.id.clone() })
    }

    /// How findings name the change.
    fn named(&self) -> String {
        format!("`{}` ({})", self.title, self.place())
    }

    /// That a query breaks by it.
    pub fn breaks(&self, broken: &Break) -> Finding {
        let (code, tail, help) = if broken.works_anew {
            (
                "QUERY_PREPARED_AGAIN",
                "; it works when it is prepared again",
                "Sessions that hold it prepared get this error once or until they reconnect, as their driver has it: name the columns instead of `*`, or restart the clients afterwards.",
            )
        } else {
            (
                "QUERY_BREAKS",
                "",
                "Release a version of the application that works with both shapes before this runs.",
            )
        };
        Finding {
            code: code.into(),
            severity: Severity::Warning,
            place: broken.query.place(),
            what: format!(
                "{} fails after {}: {} (SQLSTATE {}){tail}",
                broken.query.named(),
                self.named(),
                broken.message,
                broken.sqlstate
            ),
            help: help.into(),
        }
    }

    /// That a query depends on the columns that it changes.
    pub fn touches(&self, query: &Query, how: &str, change: &Change) -> Finding {
        Finding {
            code: "QUERY_BY_POSITION".into(),
            severity: Severity::Warning,
            place: query.place(),
            what: format!(
                "{} {how}, and {} {} by {}",
                query.named(),
                change.table.plain(),
                change.what,
                self.named()
            ),
            help: "Name the columns in the query, so that it means the same before and after.".into(),
        }
    }
}
