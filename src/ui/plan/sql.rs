//! A script that psql can run by hand, for DDL; planning it again finds nothing to change. A blue-green migration crosses
//! two servers and a pooler, so its script only says what is done where, in comments.

use super::{Shown, words};
use crate::{
    ddl::{Online, Rewritten, Settings},
    finding::Severity,
    pg::name::Ident,
};

/// The script; ends with a newline.
pub fn sql(shown: &Shown) -> String {
    let mut text = format!("-- {}: what migrate runs.\n", shown.plan);
    if shown.runbook.is_some() {
        text.push_str("-- On two servers and at the route: to be read, not to be run.\n");
    }
    for step in shown.runbook.iter().flat_map(|runbook| &runbook.phases).flat_map(|phase| &phase.steps) {
        text.push_str(&format!("\n{}", comment(&format!("{}: {}", step.id, step.title))));
        for shown in &step.shows {
            text.push_str(&comment(&format!("  {shown}")));
        }
    }
    if let Some(rewritten) = &shown.ddl {
        text.push_str(&script(shown, rewritten));
    }
    text
}

fn script(shown: &Shown, rewritten: &Rewritten) -> String {
    let mut text = String::from(
        "-- By hand: psql -X -f THIS, outside a transaction (no --single-transaction). It stops at the first error; a statement\n\
         -- that fails with lock_not_available (55P03) has changed nothing: run it again, and go on from there.\n",
    );
    let blocking = shown.findings.iter().filter(|finding| finding.severity == Severity::Blocking);
    for finding in blocking {
        text.push_str(&comment(&format!(
            "NOT IN HERE, {}: {}: {}",
            finding.code, finding.place, finding.what
        )));
    }
    text.push_str("\n\\set ON_ERROR_STOP on\n");
    let mut timeout = None;
    let mut path = vec![Ident::new("public")];
    let defaults = Settings::default();
    let mut settings = &defaults;
    for (at, step) in rewritten.statements.iter().enumerate() {
        text.push_str(&format!("\n{}", comment(&format!("{}. {}", at + 1, step.title))));
        for place in &step.from {
            text.push_str(&comment(&format!("   from {place}")));
        }
        text.push_str(&comment(&format!("   takes {}", words::cost_or_none(&step.cost))));
        text.push_str(&comment(&format!("   {}{}", words::how(step), again(step))));
        if timeout != Some(step.retry.lock_timeout_ms) {
            timeout = Some(step.retry.lock_timeout_ms);
            text.push_str(&match step.retry.lock_timeout_ms {
                Some(ms) => format!("set lock_timeout = '{ms}ms';\n"),
                None => "set lock_timeout = 0;\n".to_owned(),
            });
        }
        if path != step.search_path {
            path.clone_from(&step.search_path);
            text.push_str(&format!("set search_path = {};\n", listed(&path)));
        }
        text.push_str(&step.settings.after(settings));
        settings = &step.settings;
        text.push_str(&format!("{};\n", step.sql.trim_end().trim_end_matches(';')));
    }
    text
}

/// What to do when it fails.
fn again(step: &Online) -> &'static str {
    if step.transactional {
        "; after each, a pause of a second"
    } else {
        "; a failed one leaves an INVALID index: drop it concurrently first"
    }
}

fn listed(path: &[Ident]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Each line behind `--`, so that nothing in it can run; a carriage return would end a comment as well.
fn comment(text: &str) -> String {
    text.split(['\n', '\r']).map(|line| format!("-- {line}\n")).collect()
}
