use super::{
    brief::{self, PlanFile},
    stop,
};
use crate::ddl::{SqlFile, lock::Cost};
use crate::error::{Doing, Kind, Result};
use crate::finding::Severity;
use crate::journey::rehearse::{self, Request};
use crate::pg::name::TableName;
use crate::rehearse::{
    guardian,
    measured::Measured,
    report::{Rehearsed, Report},
};
use crate::ui::Ui;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run the plan's DDL on a scratch database made from blue's schema, and measure what it locks, reads and rewrites.
///
/// The scratch database has no rows, is made on blue's server unless --on names another one, and is removed at the end, also
/// when this is killed. Each statement's locks, scans, rewrites and index builds are compared with what `migrate plan`
/// predicts. The applications' queries, from pg_stat_statements on blue and from files, are held prepared meanwhile, and those
/// that a statement breaks are named; they are planned, never executed. Exits 3 when a finding is blocking.
#[derive(Debug, clap::Args)]
pub struct RehearseArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Make the scratch database on this server instead, a staging server of the same major; our role there must be allowed
    /// to create databases
    #[arg(long, value_name = "URL", env = "MIGRATE_REHEARSE_ON", hide_env_values = true)]
    on: Option<String>,
    /// Files of the applications' queries, with $1 where values go
    #[arg(long, value_name = "FILE", num_args = 1..)]
    queries: Vec<PathBuf>,
    /// As many queries of pg_stat_statements as are tried, the most called first; 0 for none
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=5_000))]
    top: u32,
    /// Exit 3 for findings of this severity and above
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Blocking)]
    fail_on: FailOn,
}

/// From which severity on a finding fails the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    Blocking,
    Warning,
    Info,
}

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            FailOn::Blocking => Severity::Blocking,
            FailOn::Warning => Severity::Warning,
            FailOn::Info => Severity::Info,
        }
    }
}

pub async fn run(args: RehearseArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    let mut queries = Vec::new();
    for path in &args.queries {
        let text = std::fs::read_to_string(path)
            .doing(Kind::Request, || format!("cannot read {} as UTF-8 text", path.display()))?;
        queries.push(SqlFile::new(path.display().to_string(), text));
    }
    let program = std::env::current_exe().doing(Kind::Request, || "cannot find this program".into())?;
    let request = Request { on: args.on, queries, top: args.top, program };
    let report = rehearse::run(brief, request, ui.ears(), stop::on_signal()).await?;
    show(ui, &report)?;
    let fails = report.findings.iter().any(|finding| finding.severity >= args.fail_on.severity());
    Ok(if fails { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// What the hidden command does.
pub async fn guard(ui: &Ui) -> Result<ExitCode> {
    guardian::stand(|word| ui.print(word)).await?;
    Ok(ExitCode::SUCCESS)
}

fn show(ui: &Ui, report: &Report) -> Result<()> {
    if ui.is_json() {
        return ui.print_json(report);
    }
    ui.print(&format!("{}, rehearsed on {}", report.plan, report.server));
    let rows: Vec<Vec<String>> = report.statements.iter().map(row).collect();
    ui.table(&["statement", "predicted", "measured", "held", "verdict"], &rows);
    let mut text = String::new();
    for statement in &report.statements {
        for note in &statement.notes {
            text.push_str(&format!("note: {}: {note}\n", statement.id));
        }
    }
    for left in &report.left_out {
        text.push_str(&format!("left out of the scratch database: {left}\n"));
    }
    text.push_str(&format!("{} queries of applications were held prepared\n", report.queries));
    ui.print(&text);
    ui.findings(&report.findings);
    Ok(())
}

fn row(statement: &Rehearsed) -> Vec<String> {
    let held = statement.measured.as_ref().map(|measured| format!("{} ms", measured.held_ms));
    vec![
        statement.id.clone(),
        statement.predicted.as_ref().map(told).unwrap_or_default(),
        statement.measured.as_ref().map(seen).unwrap_or_default(),
        held.unwrap_or_default(),
        statement.verdict.as_str().to_owned(),
    ]
}

fn told(cost: &Cost) -> String {
    let mut parts: Vec<String> =
        cost.locks.iter().map(|lock| format!("{} {}", lock.relation.name.as_str(), lock.mode)).collect();
    for (happens, word) in [(cost.scan, "scan"), (cost.rewrite, "rewrite"), (cost.build, "build")] {
        parts.extend(happens.then(|| word.to_owned()));
    }
    joined(parts)
}

fn seen(measured: &Measured) -> String {
    // Who locks a table locks its indexes; that need not be said.
    let is_locked = |table: &TableName| measured.locks.iter().any(|lock| lock.relation == *table);
    let locks = measured.locks.iter().filter(|lock| !lock.of_table.as_ref().is_some_and(is_locked));
    let mut parts: Vec<String> =
        locks.map(|lock| format!("{} {}", lock.relation.name.as_str(), lock.mode)).collect();
    let work = [("scan", &measured.scanned), ("rewrite", &measured.rewritten), ("build", &measured.built)];
    for (word, tables) in work {
        parts.extend((!tables.is_empty()).then(|| word.to_owned()));
    }
    joined(parts)
}

fn joined(parts: Vec<String>) -> String {
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}
