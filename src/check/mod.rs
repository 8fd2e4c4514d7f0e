//! Preflight: what would lose data or break blue, one row a check. Pure.
//!
//! [`checks`] is the list an operator can read; `docs/reference/checks.md` is made from it ([`reference`]). A rule
//! looks at the plan and the facts and says what it saw and where; code, severity and remedy are the row's. What the
//! facts do not have (offline, one side unreachable) a rule is silent about.

mod collation;
mod cutover;
mod green;
mod identity;
mod lost_writes;
mod mapping;
mod names;
mod outside;
mod privileges;
mod relations;
mod selection;
mod sequences;
mod servers;
mod sessions;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use cutover::stops_cutover;
pub use mapping::{
    join_refused, joinings, joinings_that_fit, mappings, refused as mapping_refused,
    that_fit as mappings_that_fit,
};
pub use table::checks;

use crate::{
    facts::Facts,
    finding::{Finding, Place, Severity},
    plan::{MigrationKind, Plan},
};
use std::fmt::Write;

/// One check.
pub struct Check {
    /// Stable name in capitals.
    pub code: &'static str,
    /// How bad it is when it fires.
    pub severity: Severity,
    /// The kinds of migration it concerns.
    pub concerns: Concerns,
    /// What it looks at and why it matters, one sentence or two.
    pub looks_at: &'static str,
    /// What to do when it fires.
    pub remedy: &'static str,
    /// Where the knowledge comes from, for those who maintain the list.
    pub source: &'static str,
    /// Sees it.
    pub rule: fn(&Plan, &Facts) -> Vec<Seen>,
}

/// The kinds of migration a check concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    /// All.
    Every,
    /// Those that copy to green.
    BlueGreen,
}

impl Concerns {
    fn include(self, kind: MigrationKind) -> bool {
        self == Concerns::Every || kind == MigrationKind::BlueGreen
    }
}

/// What a rule saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub place: Place,
    /// What, one sentence.
    pub what: String,
}

impl Seen {
    fn blue(object: impl Into<String>, what: impl Into<String>) -> Seen {
        Seen { place: Place::Blue { object: object.into() }, what: what.into() }
    }

    fn green(object: impl Into<String>, what: impl Into<String>) -> Seen {
        Seen { place: Place::Green { object: object.into() }, what: what.into() }
    }

    fn plan(field: impl Into<String>, what: impl Into<String>) -> Seen {
        Seen { place: Place::Plan { field: field.into() }, what: what.into() }
    }
}

/// Runs every check that concerns the plan; the worst findings first, else in the order of [`checks`].
pub fn run(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = checks()
        .filter(|check| check.concerns.include(plan.kind))
        .flat_map(|check| {
            (check.rule)(plan, facts).into_iter().map(|seen| Finding {
                code: check.code.into(),
                severity: check.severity,
                place: seen.place,
                what: seen.what,
                help: check.remedy.into(),
            })
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The reference page of the checks, in Markdown; `docs/reference/checks.md` is this.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for check in checks() {
        let only = match check.concerns {
            Concerns::Every => "",
            Concerns::BlueGreen => ", `blue_green` only",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "## {}\n", check.code);
        let _ = writeln!(page, "*{}{only}.* {}\n", check.severity, check.looks_at);
        let _ = writeln!(page, "**What to do:** {}.\n", check.remedy);
    }
    page.trim_end().to_owned() + "\n"
}

const INTRODUCTION: &str = "<!-- Generated from src/check/table/; do not edit. UPDATE_GENERATED=1 with the tests writes it anew. -->
# The checks

`migrate check` runs these against both servers without changing anything; `migrate plan` shows them when it has facts,
and `migrate cutover` runs them again before it pauses anyone. A *blocking* finding stops with exit code 3: data would be
lost, or blue would break. A *warning* is something you should have decided. *Info* is worth knowing.

";
