//! For a pull request: a table of what runs, the findings, and the SQL folded away.

use super::{Shown, lost, tables, words};
use crate::finding::{Finding, Severity};

/// Of a long plan, what a reviewer can read; the rest is counted.
const ROWS_MAX: usize = 200;

/// The page; ends with a newline.
pub fn markdown(shown: &Shown) -> String {
    let mut text = format!("## migrate plan: {}\n\n", inline(&shown.plan));
    text.push_str(&verdict(&shown.findings));
    let worth: Vec<&Finding> = sorted(&shown.findings);
    if !worth.is_empty() {
        text.push_str("\n### Findings\n\n| | where | what | what to do |\n|---|---|---|---|\n");
        for finding in worth.iter().take(ROWS_MAX) {
            text.push_str(&format!(
                "| {} `{}` | `{}` | {} | {} |\n",
                sign(finding.severity),
                finding.code,
                code(&finding.place.to_string()),
                inline(&finding.what),
                inline(&finding.help)
            ));
        }
        text.push_str(&rest(worth.len()));
    }
    if let Some(rewritten) = shown.ddl.as_ref().filter(|rewritten| !rewritten.statements.is_empty()) {
        text.push_str("\n### What runs\n\n| # | step | as written | as run |\n|--:|---|---|---|\n");
        for (at, step) in rewritten.statements.iter().take(ROWS_MAX).enumerate() {
            let places: Vec<String> =
                step.from.iter().map(|place| format!("`{}`", code(&place.to_string()))).collect();
            let was = step.was.as_ref().map_or_else(|| "the same".to_owned(), words::cost);
            text.push_str(&format!(
                "| {} | {}<br>{} | {} | {} |\n",
                at + 1,
                inline(&step.title),
                places.join("<br>"),
                inline(&was),
                inline(&words::cost_or_none(&step.cost))
            ));
        }
        text.push_str(&rest(rewritten.statements.len()));
    }
    if let Some(copy) = &shown.copy {
        text.push_str(&tables::markdown(copy));
    }
    if let Some(lost) = &shown.lost_writes {
        text.push_str(&lost::markdown(lost));
    }
    if let Some(runbook) = &shown.runbook {
        for phase in &runbook.phases {
            text.push_str(&format!("\n### {}\n\n{}\n\n", phase.name.as_str(), inline(phase.name.story())));
            for step in &phase.steps {
                text.push_str(&format!("* `{}` {}\n", code(&step.id), inline(&step.title)));
            }
        }
    }
    let script = super::sql(shown);
    let fence = fence(&script);
    text.push_str(&format!("\n<details><summary>The SQL, as psql can run it</summary>\n\n{fence}sql\n{script}{fence}\n\n</details>\n"));
    text
}

fn verdict(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (blocking, warnings) = (count(Severity::Blocking), count(Severity::Warning));
    match (blocking, warnings) {
        (0, 0) => "Nothing stands against it.\n".to_owned(),
        (0, warnings) => format!("It may run; {warnings} to be looked at.\n"),
        (blocking, _) => format!("**It does not run: {blocking} to be resolved first.**\n"),
    }
}

fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.place.cmp(&b.place)));
    sorted
}

fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Blocking => "⛔",
        Severity::Warning => "⚠️",
        Severity::Info => "ℹ️",
    }
}

fn rest(count: usize) -> String {
    if count > ROWS_MAX { format!("\n{} more are not shown.\n", count - ROWS_MAX) } else { String::new() }
}

/// Text in a cell: nothing in it is Markdown or HTML, and it is one line.
pub(super) fn inline(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '|' | '*' | '_' | '[' | ']' | '\\' | '#' => {
                safe.push('\\');
                safe.push(c);
            }
            // Backticks stay: messages quote code with them.
            c => safe.push(c),
        }
    }
    safe
}

/// Text between backticks in a cell.
pub(super) fn code(text: &str) -> String {
    text.replace('`', "'").replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// More backticks than stand together anywhere in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}
