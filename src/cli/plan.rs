use super::brief::{self, Sketch};
use crate::check;
use crate::ddl::{self, Rewritten};
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::Facts;
use crate::finding::{Finding, any_blocking};
use crate::journey::{observe, session::Brief};
use crate::plan::{MigrationKind, Plan, load::SqlFile, variables::UnsetVariable};
use crate::runbook::{PhaseName, Runbook, View, blue_green};
use crate::step::{Reversal, attempt::Attempt};
use crate::ui::Ui;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show the runbook: every step, its SQL, the locks it takes, the point of no return, and what stands in the way.
///
/// Reads both databases and changes nothing. Exits 3 when a finding is blocking, so that CI can gate on it.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The plan, a YAML file
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// Look at no database, assume the worst; environment variables that are not set stand for themselves
    #[arg(long)]
    offline: bool,
    /// Take the facts from this file instead of the databases
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    facts: Option<PathBuf>,
    /// Write the facts that were read to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["offline", "facts"])]
    save_facts: Option<PathBuf>,
    /// Text for people, JSON for programs, SQL to read or run by hand
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a runbook is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Sql,
}

/// Everything `plan` shows.
#[derive(Serialize)]
struct Shown {
    plan: String,
    kind: MigrationKind,
    /// Without a look at blue its tables are not known: what names them names none, and there is no fingerprint.
    looked_at_blue: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook: Option<View>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ddl: Option<Rewritten>,
}

/// The plan, and what is known about it.
struct Subject {
    plan: Plan,
    sql_files: Vec<SqlFile>,
    facts: Option<Facts>,
    findings: Vec<Finding>,
    /// Without a server, variables may be missing.
    unset: Vec<UnsetVariable>,
}

pub async fn run(args: PlanArgs, ui: &Ui) -> Result<ExitCode> {
    let subject = match (&args.facts, args.offline) {
        (Some(path), _) => look_into_file(&args.plan, path)?,
        (None, true) => look_at_plan(&args.plan)?,
        (None, false) => look_at_servers(&args.plan, ui).await?,
    };
    if let (Some(path), Some(facts)) = (&args.save_facts, &subject.facts) {
        let text =
            serde_json::to_string_pretty(facts).doing(Kind::Bug, || "the facts cannot be written".into())?;
        std::fs::write(path, text).doing(Kind::Request, || format!("cannot write {}", path.display()))?;
    }
    let shown = build(subject)?;
    show(ui, &shown, args.format)?;
    Ok(if any_blocking(&shown.findings) { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn build(subject: Subject) -> Result<Shown> {
    let Subject { plan, sql_files, facts, findings, unset } = subject;
    let mut shown = Shown {
        plan: plan.name.clone(),
        kind: plan.kind,
        looked_at_blue: facts.as_ref().is_some_and(|facts| facts.blue.is_some()),
        fingerprint: None,
        findings,
        runbook: None,
        ddl: None,
    };
    match plan.kind {
        MigrationKind::InPlace => {
            let rewritten = rewrite(&sql_files, facts.as_ref());
            shown.findings.extend(rewritten.findings.iter().cloned());
            shown.ddl = Some(rewritten);
        }
        MigrationKind::BlueGreen => {
            let blue = facts.and_then(|facts| facts.blue).unwrap_or_default();
            // The attempt's number is not known before it begins; the first is the likely one.
            let attempt = Attempt::new(&plan.name, 1);
            let runbook = blue_green::build(&plan, &blue, &attempt, &sql_files);
            if shown.looked_at_blue && has_every_value(&plan, &unset)? {
                shown.fingerprint = Some(runbook.fingerprint(&plan)?);
            }
            shown.runbook = Some(runbook.view());
        }
    }
    Ok(shown)
}

/// Whether all that a fingerprint covers is known: secrets are not part of it, so theirs may be missing.
fn has_every_value(plan: &Plan, unset: &[UnsetVariable]) -> Result<bool> {
    let text =
        serde_json::to_string(plan).doing(Kind::Bug, || "the plan cannot be written as JSON".into())?;
    Ok(!unset.iter().any(|variable| text.contains(&variable.placeholder())))
}

async fn look_at_servers(path: &Path, ui: &Ui) -> Result<Subject> {
    let (Brief { plan, sql_files, .. }, mut findings) = brief::read(path)?;
    let mut facts = None;
    if !any_blocking(&findings) {
        let observed = observe::connect_and_observe(&plan, ui.ears()).await?;
        findings.extend(observed.judge(&plan));
        facts = Some(observed.facts);
    }
    Ok(Subject { plan, sql_files, facts, findings, unset: Vec::new() })
}

fn look_at_plan(path: &Path) -> Result<Subject> {
    let Sketch { plan, sql_files, findings, unset } = brief::sketch(path)?;
    Ok(Subject { plan, sql_files, facts: None, findings, unset })
}

const FACTS_HELP: &str = "write one with `migrate plan --save-facts FILE`";

fn look_into_file(plan: &Path, path: &Path) -> Result<Subject> {
    let subject = look_at_plan(plan)?;
    if any_blocking(&subject.findings) {
        return Ok(subject);
    }
    let refuse = |what: String| Error::new(Kind::Request, what).hint(FACTS_HELP);
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot read {}", path.display())).source(error))?;
    let facts: Facts = serde_json::from_str(&text).map_err(|error| {
        refuse(format!("{} is not a facts file of this version", path.display())).source(error)
    })?;
    let mut findings = subject.findings;
    findings.extend(check::run(&subject.plan, &facts));
    Ok(Subject { findings, facts: Some(facts), ..subject })
}

pub(super) fn rewrite(files: &[SqlFile], facts: Option<&Facts>) -> Rewritten {
    ddl::rewrite(files, facts.and_then(|facts| facts.blue.as_ref()))
}

fn show(ui: &Ui, shown: &Shown, format: Format) -> Result<()> {
    if format == Format::Json || ui.is_json() {
        return ui.print_json(shown);
    }
    match format {
        Format::Sql => ui.print(&as_sql(shown)),
        Format::Text | Format::Json => ui.print(&format!("{}\n", as_text(shown))),
    }
    ui.findings(&shown.findings);
    Ok(())
}

fn as_text(shown: &Shown) -> String {
    let mut text = format!("{}\n", shown.plan);
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
    if let Some(runbook) = &shown.runbook {
        for phase in &runbook.phases {
            text.push_str(&phase_text(phase));
        }
    }
    if let Some(rewritten) = &shown.ddl {
        for (at, statement) in rewritten.statements.iter().enumerate() {
            text.push_str(&format!("\n{:>3}. {}\n", at + 1, statement.title));
            for line in statement.sql.lines() {
                text.push_str(&format!("       {line}\n"));
            }
            for lock in &statement.cost.locks {
                text.push_str(&format!("     lock: {} on {}\n", lock.mode, lock.relation.plain()));
            }
            text.push_str(&format!("     why: {}\n", statement.why));
            text.push_str(&format!("     step: {}\n", statement.id));
        }
    }
    text
}

fn phase_text(phase: &crate::runbook::PhaseView) -> String {
    let mut text = format!("\n{}: {}\n", phase.name.as_str(), phase.name.story());
    for step in &phase.steps {
        text.push_str(&format!("  {:<26} {}\n", step.id, step.title));
        for line in step.shows.iter().flat_map(|shown| shown.lines()) {
            text.push_str(&format!("      {line}\n"));
        }
        if step.reversal == Reversal::PointOfNoReturn {
            text.push_str("  ---- point of no return: from here only forward ----\n");
        }
    }
    text
}

fn as_sql(shown: &Shown) -> String {
    let mut text = format!("-- {}: what `migrate` runs, for reading.\n", shown.plan);
    if let Some(runbook) = &shown.runbook {
        for step in runbook.phases.iter().flat_map(|phase| &phase.steps) {
            text.push_str(&format!("\n-- {}: {}\n", step.id, step.title));
            for shown in &step.shows {
                text.push_str(&format!("{};\n", shown.trim_end().trim_end_matches(';')));
            }
        }
    }
    if let Some(rewritten) = &shown.ddl {
        for statement in &rewritten.statements {
            text.push_str(&format!(
                "\n-- {}\n{};\n",
                statement.title,
                statement.sql.trim_end().trim_end_matches(';')
            ));
        }
    }
    text
}

/// Some phases of a runbook, as text to stdout.
pub(super) fn show_phases(ui: &Ui, runbook: &Runbook, names: &[PhaseName]) {
    let view = runbook.view();
    let text: String =
        view.phases.iter().filter(|phase| names.contains(&phase.name)).map(phase_text).collect();
    ui.print(&text);
}
