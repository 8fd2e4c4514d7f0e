use super::{
    brief::{self, PlanFile},
    stop,
};
use crate::error::Result;
use crate::journey::{
    cutover,
    handover::RequestKind,
    session::{Session, Wish},
};
use crate::runbook::PhaseName;
use crate::ui::Ui;
use std::process::ExitCode;

/// Switch to green: gates, pause, fence, drain, compare, switch, open, resume, replay.
///
/// Before the point of no return a failure, a deadline or Ctrl-C puts everything back as it was and clients go on
/// with blue. After it, run the same command again: it goes on.
#[derive(Debug, clap::Args)]
pub struct CutoverArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Name every action and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse any other runbook than the one with this fingerprint
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

pub async fn run(args: CutoverArgs, ui: &Ui) -> Result<ExitCode> {
    let mut brief = brief::read_blue_green(&args.plan.plan, "cutover")?;
    brief.fingerprint = args.fingerprint;
    if args.dry_run {
        let rehearsal = cutover::dry_run(&brief).await?;
        let phases = [PhaseName::Arm, PhaseName::Switch, PhaseName::Settle];
        super::plan::show_phases(ui, &rehearsal.runbook, &phases);
        ui.say(&rehearsal.standing);
        return Ok(ExitCode::SUCCESS);
    }
    cutover::look_first(&brief).await?;
    let session = Session::open(brief, Wish::TakeOver(RequestKind::Cutover), ui.ears()).await?;
    let outcome = cutover::run(&session, stop::on_signal()).await;
    session.close(outcome).await?;
    ui.say("clients are served by green; blue refuses writes. `migrate report` tells what happened");
    Ok(ExitCode::SUCCESS)
}
