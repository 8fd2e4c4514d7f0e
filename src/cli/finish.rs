use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::{
    compat, finish,
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
/// records go. With `compat: views` the views for old clients go too; roles whose search_path still leads there are named.
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
    warn_of_old_clients(&brief, ui).await?;
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

/// The views go whether or not somebody is still sent to them, but not without a word.
async fn warn_of_old_clients(brief: &Brief, ui: &Ui) -> Result<()> {
    for who in compat::still_sent_there(&brief.plan).await? {
        ui.say(&format!("warning: the search_path of {who} still begins with the views for old clients, which are dropped now"));
    }
    Ok(())
}

async fn finish_in_place(brief: &Brief, ui: &Ui) -> Result<ExitCode> {
    in_place::look_before_finish(&brief.plan).await?;
    warn_of_old_clients(brief, ui).await?;
    if !ui.confirm("Remove our records, and views for old clients if there are any? `migrate apply` could then run the same plan once more")? {
        return Ok(ExitCode::SUCCESS);
    }
    let report = in_place::finish(&brief.plan).await?;
    super::report::show(ui, &report, super::report::Format::Text)?;
    ui.say("finished; nothing of ours is left");
    Ok(ExitCode::SUCCESS)
}
