//! One result of a check: a stable code, how bad, where, what, and what to do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad a finding is. Ordered: `Blocking` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something will be slower, or not carried; the operator should have decided it.
    Warning,
    /// We do not go on: data would be lost, or blue would break.
    Blocking,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Blocking => "blocking",
        })
    }
}

/// Where a finding is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "lowercase")]
pub enum Place {
    /// A field of the plan, as a path: `cutover.route`.
    Plan {
        /// The field's path.
        field: String,
    },
    /// A place in a SQL file; lines and columns count from 1, columns in characters.
    Sql {
        /// The file as the operator named it.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// An object or setting of blue.
    Blue {
        /// Its name.
        object: String,
    },
    /// An object or setting of green.
    Green {
        /// Its name.
        object: String,
    },
    /// A route, the broker, or a program on this machine.
    Outside {
        /// Its name.
        object: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Plan { field } => write!(f, "plan: {field}"),
            Place::Sql { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Blue { object } => write!(f, "blue: {object}"),
            Place::Green { object } => write!(f, "green: {object}"),
            Place::Outside { object } => f.write_str(object),
        }
    }
}

/// One result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable name in capitals, e.g. `NO_IDENTITY`; it has a page or a row in the docs.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What was seen, one sentence.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// Whether any finding stops us.
pub fn any_blocking(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Blocking)
}

/// The nearest known word, when it is near enough to have been meant; else all of them.
pub fn suggest(word: &str, known: &[&str], all: &str) -> String {
    let nearest = known.iter().map(|known| (edit_distance(word, known), *known)).min();
    match nearest {
        Some((distance, near)) if distance <= 1 + near.len() / 4 => format!("did you mean `{near}`?"),
        _ => format!("{all} {}", known.join(", ")),
    }
}

/// Insertions, deletions, replacements and swaps of neighbors that turn one word into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_by_edits() {
        assert_eq!(edit_distance("cutovr", "cutover"), 1);
        assert_eq!(edit_distance("cutvoer", "cutover"), 1);
        assert_eq!(suggest("cutvoer", &["cutover", "blue"], "it can be"), "did you mean `cutover`?");
        assert_eq!(suggest("speed", &["cutover", "blue"], "it can be"), "it can be cutover, blue");
    }
}
