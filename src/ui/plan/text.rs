//! For people: the original line with a caret, what it would have cost, what runs instead and why.

use super::{Shown, lost, original::Originals, sample, tables, words};
use crate::{
    ddl::Online,
    finding::{Finding, Severity},
    plan::MigrationKind,
    runbook::PhaseView,
    step::Reversal,
    ui::render::{self, BOLD, CYAN, GREEN, PLAIN, RED, YELLOW},
};

/// The plan, without its findings' closing line; ends with a newline.
pub fn text(shown: &Shown) -> String {
    let mut text = format!("{BOLD}{}{PLAIN}\n", shown.plan);
    if let Some(fingerprint) = &shown.fingerprint {
        text.push_str(&format!("fingerprint {fingerprint}\n"));
    }
    if !shown.looked_at_blue {
        text.push_str(match shown.kind {
            MigrationKind::InPlace => "blue was not looked at: every table may be large and in use\n",
            MigrationKind::BlueGreen => {
                "blue was not looked at: its tables are not in the steps, and there is no fingerprint\n"
            }
        });
    }
    if let Some(copy) = &shown.copy {
        text.push_str(&tables::text(copy));
    }
    if let Some(lost) = &shown.lost_writes {
        text.push_str(&lost::text(lost));
    }
    for one in shown.runbook.iter().flat_map(|runbook| &runbook.phases) {
        text.push_str(&phase(one));
    }
    let originals = Originals::new(&shown.files);
    for (at, step) in shown.ddl.iter().flat_map(|ddl| &ddl.statements).enumerate() {
        text.push_str(&statement(at + 1, step, &originals));
    }
    text.push_str(&sample::text(&shown.samples));
    text.push('\n');
    // A note says something of many lines at once.
    let quote = |finding: &Finding| {
        let worth = finding.severity > Severity::Info;
        originals.at(&finding.place).filter(|_| worth).map(|original| original.quoted(""))
    };
    text.push_str(&render::findings_quoting(&shown.findings, &quote));
    text
}

/// A phase of a runbook with its steps.
pub fn phase(phase: &PhaseView) -> String {
    let mut text = format!("\n{BOLD}{}{PLAIN}: {}\n", phase.name.as_str(), phase.name.story());
    for step in &phase.steps {
        text.push_str(&format!("  {:<26} {}\n", step.id, step.title));
        for line in step.shows.iter().flat_map(|shown| shown.lines()) {
            text.push_str(&format!("      {line}\n"));
        }
        for (word, value) in [("locks", &step.locks), ("up to", &step.deadline)] {
            if !value.is_empty() {
                text.push_str(&format!("      {CYAN}{word}{PLAIN} {value}\n"));
            }
        }
        if step.reversal == Reversal::PointOfNoReturn {
            text.push_str("  ---- point of no return: from here only forward ----\n");
        }
    }
    text
}

fn statement(number: usize, step: &Online, originals: &Originals<'_>) -> String {
    let mut text = format!("\n{BOLD}{number:>3}. {}{PLAIN}\n", step.title);
    let was = step.was.as_ref().map(words::cost).filter(|was| !was.is_empty());
    let mut as_written = false;
    for (at, place) in step.from.iter().enumerate() {
        text.push_str(&format!("     {CYAN}{place}{PLAIN}\n"));
        let Some(original) = originals.at(place) else { continue };
        as_written |= original.sql.trim() == step.sql.trim();
        let label = was.as_deref().filter(|_| at == 0).unwrap_or_default();
        text.push_str(&moved(&original.quoted(label)));
    }
    if as_written {
        text.push_str(&line("runs", GREEN, "as written"));
    } else {
        text.push_str(&line("runs", GREEN, &step.sql));
    }
    let now = words::cost(&step.cost);
    let color = if step.cost.works_while_others_wait() {
        RED
    } else if words::waits(&step.cost).is_empty() {
        PLAIN
    } else {
        YELLOW
    };
    if !now.is_empty() {
        text.push_str(&line("takes", color, &now));
    }
    text.push_str(&line("how", PLAIN, &words::how(step)));
    if !step.why.is_empty() {
        text.push_str(&line("why", PLAIN, &step.why));
    }
    text.push_str(&line("step", PLAIN, &step.id));
    text
}

/// A word, and what it stands for, further lines below it.
fn line(word: &str, color: &str, value: &str) -> String {
    let value = value.trim_end().replace('\n', "\n            ");
    format!("     {color}{word:<5}{PLAIN}  {value}\n")
}

fn moved(quote: &str) -> String {
    quote.lines().map(|line| format!("     {line}\n")).collect()
}
