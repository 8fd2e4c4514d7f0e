//! The command line: one file per command, its arguments and its `run`. Knows everything, decides nothing.

mod apply;
mod brief;
mod check;
mod cutover;
mod finish;
mod plan;
mod plan_directory;
mod rehearse;
mod replicate;
mod report;
mod rollback;
mod status;
mod stop;

use crate::error::{Error, Kind, Result};
use crate::ui::{Mode, Ui};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Moves a live PostgreSQL database to another one, of another version, schema or host, and loses nothing.
///
/// Exit codes: 0 done; 1 the plan or request is wrong; 2 usage; 3 findings or a gate stop us; 4 a deadline passed and
/// everything is as before; 5 stopped between steps, `migrate status` says where; 6 past the point of no return, only
/// forward; 70 a bug.
#[derive(Debug, Parser)]
#[command(name = "migrate", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Progress and results as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Answer yes to every question
    #[arg(long, short = 'y', global = true)]
    yes: bool,
    /// More of what happens, on stderr; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::PlanArgs),
    Check(check::CheckArgs),
    Rehearse(rehearse::RehearseArgs),
    /// Removes the scratch database of a rehearsal when that is gone; `migrate rehearse` starts it
    #[command(hide = true)]
    RehearsalGuardian,
    Apply(apply::ApplyArgs),
    Replicate(replicate::ReplicateArgs),
    Cutover(cutover::CutoverArgs),
    Rollback(rollback::RollbackArgs),
    Status(status::StatusArgs),
    Report(report::ReportArgs),
    Finish(finish::FinishArgs),
}

/// Parses, runs, and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout with code 0, mistakes to stderr with code 2.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mode = if cli.global.json { Mode::Json } else { Mode::Auto };
    let ui = Ui::new(mode, cli.global.yes);
    log_among_talk(&ui, cli.global.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(Kind::Bug, "cannot start the runtime").source(error);
            ui.error(&error);
            return ExitCode::from(error.kind.exit_code());
        }
    };
    let outcome = runtime.block_on(dispatch(cli.command, &ui));
    ui.close();
    // Background tasks (a follower that is still connecting) must not hold the exit up.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

async fn dispatch(command: Command, ui: &Ui) -> Result<ExitCode> {
    match command {
        Command::Plan(args) => plan::run(args, ui).await,
        Command::Check(args) => check::run(args, ui).await,
        Command::Rehearse(args) => rehearse::run(args, ui).await,
        Command::RehearsalGuardian => rehearse::guard(ui).await,
        Command::Apply(args) => apply::run(args, ui).await,
        Command::Replicate(args) => replicate::run(args, ui).await,
        Command::Cutover(args) => cutover::run(args, ui).await,
        Command::Rollback(args) => rollback::run(args, ui).await,
        Command::Status(args) => status::run(args, ui).await,
        Command::Report(args) => report::run(args, ui).await,
        Command::Finish(args) => finish::run(args, ui).await,
    }
}

/// The whole command line as Markdown, for `docs/reference/cli.md`.
pub fn reference() -> String {
    let mut text = String::from("# Command line\n\nGenerated from the program; a test compares it.\n");
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut section = |command: &mut clap::Command| {
        let name = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
        text.push_str(&format!(
            "\n## {name}\n\n```\n{}\n```\n",
            command.render_long_help().to_string().trim_end()
        ));
    };
    section(&mut command.clone());
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        section(sub);
    }
    text
}

/// `MIGRATE_LOG` takes tracing's directives; `-v` is for those who do not know them. Libraries log errors that we turn
/// into findings (a broker's refusal), so theirs are not shown twice.
fn log_among_talk(ui: &Ui, verbose: u8) {
    let fallback = match verbose {
        0 => "migrate=error",
        1 => "migrate=info",
        _ => "migrate=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("MIGRATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(fallback));
    let logs = ui.logs();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || logs.clone());
    // A second subscriber in one process is a test's; the first one stays.
    let _ = subscriber.try_init();
}
