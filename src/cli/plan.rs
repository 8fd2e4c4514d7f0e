use super::brief::{self, Sketch};
use super::plan_directory::{AsPlan, DirectoryArgs, is_migrations};
use crate::check;
use crate::copy::crew::{self, Machine};
use crate::ddl;
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::Facts;
use crate::finding::{Finding, Severity, any_blocking};
use crate::journey::{applied, mapped_rows, observe, session::Brief};
use crate::pg::conninfo::ConnInfo;
use crate::plan::{MigrationKind, Plan, load::SqlFile, variables::UnsetVariable};
use crate::runbook::{
    PhaseName, Runbook,
    blue_green::{self, PlanSql},
    copied::{self, CopyList},
    in_place,
    lost_writes::{self, LostWrites},
};
use crate::step::{attempt::Attempt, sample_rows::Sample};
use crate::ui::{
    Ui,
    plan::{self, Shown},
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show the runbook: every step, its SQL, the locks it takes, the point of no return, and what stands in the way.
///
/// Reads both databases and changes nothing. Exits 3 when a finding is blocking (or what --fail-on says), so that CI can
/// gate on it.
///
/// Given a directory of migrations or one SQL file instead of a plan, it shows how they would run online: on the database of
/// --blue, else of the environment variable DATABASE_URL; offline when there is neither.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The plan, a YAML file; or a directory of migrations, or a file whose name ends in .sql
    #[arg(value_name = "PLAN|DIR|SQL")]
    plan: PathBuf,
    #[command(flatten)]
    directory: DirectoryArgs,
    /// Look at no database, assume the worst; environment variables that are not set stand for themselves
    #[arg(long)]
    offline: bool,
    /// Take the facts from this file instead of the databases
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    facts: Option<PathBuf>,
    /// Write the facts that were read to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["offline", "facts"])]
    save_facts: Option<PathBuf>,
    /// Hold blue's rows against what green demands of them (NOT NULL, CHECK, domains, what is unique, excludes or refers): all
    /// rows of mapped tables up to 32 MiB, a sample of larger ones. Shows keys of rows that break a rule, and no other values
    #[arg(long, conflicts_with_all = ["offline", "facts"])]
    prove_rows: bool,
    /// Show up to N rows of each mapped table, before and after. It shows their values as they are, secrets too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(mapped_rows::SAMPLE_MAX)), conflicts_with_all = ["offline", "facts"])]
    sample: Option<u32>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit with 3 when a finding is at least as bad as this
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Blocking)]
    fail_on: FailOn,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: the original lines, what they would have locked, what runs instead and why
    Text,
    /// For programs
    Json,
    /// A script that psql can run by hand
    Sql,
    /// For a pull request
    Markdown,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// From which severity on a finding makes the command fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    Info,
    Warning,
    Blocking,
}

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            FailOn::Info => Severity::Info,
            FailOn::Warning => Severity::Warning,
            FailOn::Blocking => Severity::Blocking,
        }
    }
}

impl PlanArgs {
    fn refuse_rows_without_place(&self, is_migrations: bool) -> Result<()> {
        let flag = match (self.prove_rows, self.sample) {
            (true, _) => "--prove-rows",
            (false, Some(_)) => "--sample",
            (false, None) => return Ok(()),
        };
        if is_migrations {
            return Err(Error::new(
                Kind::Request,
                format!("{flag} is about a plan's mapped tables, and this is no plan"),
            )
            .hint("give it a plan with `replicate.map`"));
        }
        if self.sample.is_some() && !matches!(self.format, Format::Text | Format::Json) {
            return Err(Error::new(
                Kind::Request,
                "--sample shows rows, and this format is made to be passed on",
            )
            .hint("use --format text or json"));
        }
        Ok(())
    }
}

/// The plan, and what is known about it.
struct Subject {
    plan: Plan,
    sql_files: Vec<SqlFile>,
    after_copy: Vec<SqlFile>,
    facts: Option<Facts>,
    findings: Vec<Finding>,
    /// Without a server, variables may be missing.
    unset: Vec<UnsetVariable>,
    /// On request alone: they show values.
    samples: Vec<Sample>,
}

pub async fn run(args: PlanArgs, ui: &Ui) -> Result<ExitCode> {
    let is_migrations = is_migrations(&args.plan);
    if !is_migrations {
        args.directory.refuse_for_file()?;
    }
    args.refuse_rows_without_place(is_migrations)?;
    let subject = match (is_migrations, &args.facts, args.offline) {
        (true, ..) => look_into_migrations(&args, ui).await?,
        (false, Some(path), _) => look_into_file(&args.plan, path)?,
        (false, None, true) => look_at_plan(&args.plan)?,
        (false, None, false) => look_at_servers(&args, ui).await?,
    };
    if let (Some(path), Some(facts)) = (&args.save_facts, &subject.facts) {
        let text =
            serde_json::to_string_pretty(facts).doing(Kind::Bug, || "the facts cannot be written".into())?;
        std::fs::write(path, text).doing(Kind::Request, || format!("cannot write {}", path.display()))?;
    }
    let mut shown = build(subject)?;
    shown.path = args.plan.display().to_string();
    show(ui, &shown, args.format)?;
    let worst = shown.findings.iter().map(|finding| finding.severity).max();
    let fails = worst.is_some_and(|worst| worst >= args.fail_on.severity());
    Ok(if fails { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn build(subject: Subject) -> Result<Shown> {
    let Subject { plan, sql_files, after_copy, facts, findings, unset, samples } = subject;
    let lost: Option<LostWrites> = facts.as_ref().and_then(|facts| lost_writes::account(&plan, facts));
    let mut shown = Shown {
        plan: plan.name.clone(),
        kind: plan.kind,
        lost_writes: lost,
        looked_at_blue: facts.as_ref().is_some_and(|facts| facts.blue.is_some()),
        fingerprint: None,
        findings,
        runbook: None,
        copy: None,
        ddl: None,
        samples,
        path: String::new(),
        files: Vec::new(),
    };
    match plan.kind {
        MigrationKind::InPlace => {
            let live = facts.as_ref().and_then(|facts| facts.blue.as_ref());
            let rewritten = in_place::rewrite(&plan, &sql_files, live);
            if let Some(error) = ddl::explain_unreadable(&sql_files, &rewritten) {
                return Err(error);
            }
            shown.findings.extend(rewritten.findings.iter().cloned());
            shown.ddl = Some(rewritten);
            shown.files = sql_files;
        }
        MigrationKind::BlueGreen => {
            let copy = facts.as_ref().and_then(|facts| copied_tables(&plan, facts));
            let blue = facts.and_then(|facts| facts.blue).unwrap_or_default();
            // The attempt's number is not known before it begins; the first is the likely one.
            let attempt = Attempt::new(&plan.name, 1);
            let sql = PlanSql { schema: &sql_files, after_copy: &after_copy };
            let runbook = blue_green::build(&plan, &blue, &attempt, sql);
            shown.findings.extend(blue_green::views_for_old_clients(&plan, &blue, &sql_files).1);
            if shown.looked_at_blue && has_every_value(&plan, &unset)? {
                shown.fingerprint = Some(runbook.fingerprint(&plan)?);
            }
            shown.runbook = Some(runbook.view());
            shown.copy = copy;
        }
    }
    Ok(shown)
}

/// What the copy would carry; `None` when blue was not looked at.
fn copied_tables(plan: &Plan, facts: &Facts) -> Option<CopyList> {
    let blue = facts.blue.as_ref()?;
    let green = plan.green.as_ref().and_then(|green| ConnInfo::parse(green.url.expose()).ok());
    let setting = |name: &str| facts.green.as_ref()?.settings.get(name)?.parse().ok();
    let machine = Machine {
        own_cores: green.filter(ConnInfo::is_on_this_machine).map(|_| crew::own_cores()),
        worker_processes: setting("max_worker_processes").unwrap_or_default(),
    };
    Some(copied::list(plan, blue, crew::own_cores(), machine))
}

/// Whether all that a fingerprint covers is known: secrets are not part of it, so theirs may be missing.
fn has_every_value(plan: &Plan, unset: &[UnsetVariable]) -> Result<bool> {
    let text = serde_json::to_string(&plan.pinned())
        .doing(Kind::Bug, || "the plan cannot be written as JSON".into())?;
    Ok(!unset.iter().any(|variable| text.contains(&variable.placeholder())))
}

async fn look_at_servers(args: &PlanArgs, ui: &Ui) -> Result<Subject> {
    let (Brief { plan, sql_files, after_copy, .. }, mut findings) = brief::read(&args.plan)?;
    let mut facts = None;
    let mut samples = Vec::new();
    if !any_blocking(&findings) {
        let observed = observe::connect_and_observe(&plan, ui.ears()).await?;
        findings.extend(observed.judge(&plan));
        if args.prove_rows {
            findings.extend(mapped_rows::prove(&plan, &observed.facts).await?);
        }
        if let Some(rows) = args.sample {
            samples = mapped_rows::sample(&plan, &observed.facts, rows).await?;
        }
        facts = Some(observed.facts);
    }
    Ok(Subject { plan, sql_files, after_copy, facts, findings, unset: Vec::new(), samples })
}

fn look_at_plan(path: &Path) -> Result<Subject> {
    let Sketch { plan, sql_files, after_copy, findings, unset } = brief::sketch(path)?;
    Ok(Subject { plan, sql_files, after_copy, facts: None, findings, unset, samples: Vec::new() })
}

fn look_into_file(plan: &Path, path: &Path) -> Result<Subject> {
    let subject = look_at_plan(plan)?;
    if any_blocking(&subject.findings) {
        return Ok(subject);
    }
    let facts = read_facts(path)?;
    let mut findings = subject.findings;
    findings.extend(check::run(&subject.plan, &facts));
    Ok(Subject { findings, facts: Some(facts), ..subject })
}

/// The checks of a whole plan are not asked: migrations say nothing of their plan but its SQL.
async fn look_into_migrations(args: &PlanArgs, ui: &Ui) -> Result<Subject> {
    let AsPlan { plan, mut migrations, offline, asks_record } =
        args.directory.read(&args.plan, args.offline || args.facts.is_some())?;
    let facts = match &args.facts {
        Some(path) => Some(read_facts(path)?),
        None if offline => None,
        None => Some(observe::connect_and_observe(&plan, ui.ears()).await?.facts),
    };
    if asks_record && let Some(applied) = applied::read(&plan, migrations.tool).await? {
        migrations.keep_unapplied(&applied);
    }
    let (sql_files, findings) = migrations.into_parts();
    let (unset, samples, after_copy) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Subject { plan, sql_files, after_copy, facts, findings, unset, samples })
}

const FACTS_HELP: &str = "write one with `migrate plan --save-facts FILE`";

fn read_facts(path: &Path) -> Result<Facts> {
    let refuse = |what: String| Error::new(Kind::Request, what).hint(FACTS_HELP);
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("cannot read {}", path.display())).source(error))?;
    serde_json::from_str(&text).map_err(|error| {
        refuse(format!("{} is not a facts file of this version", path.display())).source(error)
    })
}

fn show(ui: &Ui, shown: &Shown, format: Format) -> Result<()> {
    match format {
        Format::Sarif => return ui.print_json(&plan::sarif(shown)),
        Format::Json => return ui.print_json(shown),
        _ if ui.is_json() => return ui.print_json(shown),
        Format::Text => ui.print(&plan::text(shown)),
        Format::Sql => ui.print(&plan::sql(shown)),
        Format::Markdown => ui.print(&plan::markdown(shown)),
    }
    Ok(())
}

/// Some phases of a runbook, as text to stdout.
pub(super) fn show_phases(ui: &Ui, runbook: &Runbook, names: &[PhaseName]) {
    let view = runbook.view();
    let text: String =
        view.phases.iter().filter(|phase| names.contains(&phase.name)).map(plan::phase).collect();
    ui.print(&text);
}
