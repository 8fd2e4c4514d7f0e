use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::{
    finish,
    handover::RequestKind,
    session::{Session, Wish},
};
use crate::ui::Ui;
use std::process::ExitCode;

/// Remove what is ours and restore what we changed, but leave blue fenced.
///
/// Prints the last report to stdout: the journal goes with green's schema `migrate`.
#[derive(Debug, clap::Args)]
pub struct FinishArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub async fn run(args: FinishArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    if !ui.confirm("Remove the way back: slots, publications, queue, journal?")? {
        return Ok(ExitCode::SUCCESS);
    }
    let session = Session::open(brief, Wish::TakeOver(RequestKind::Finish), ui.ears()).await?;
    let outcome = finish::run(&session).await;
    let report = session.close(outcome).await?;
    super::report::show(ui, &report, super::report::Format::Text)?;
    ui.say("finished; blue stays fenced");
    Ok(ExitCode::SUCCESS)
}
