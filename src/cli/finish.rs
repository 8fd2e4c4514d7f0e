use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::{
    finish,
    handover::RequestKind,
    in_place,
    session::{Brief, Session, Wish},
};
use crate::plan::MigrationKind;
use crate::ui::Ui;
use std::process::ExitCode;

/// Remove what is ours and restore what we changed, but leave blue fenced.
///
/// Prints the last report to stdout: the journal goes with schema `migrate`. Of a plan that is run in place, only our
/// records go.
#[derive(Debug, clap::Args)]
pub struct FinishArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub async fn run(args: FinishArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    if brief.plan.kind == MigrationKind::InPlace {
        return finish_in_place(&brief, ui).await;
    }
    finish::look_first(&brief).await?;
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

async fn finish_in_place(brief: &Brief, ui: &Ui) -> Result<ExitCode> {
    in_place::look_before_finish(&brief.plan).await?;
    if !ui.confirm("Remove our records? `migrate apply` could then run the same plan once more")? {
        return Ok(ExitCode::SUCCESS);
    }
    let report = in_place::finish(&brief.plan).await?;
    super::report::show(ui, &report, super::report::Format::Text)?;
    ui.say("finished; nothing of ours is left");
    Ok(ExitCode::SUCCESS)
}
