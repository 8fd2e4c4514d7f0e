use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::{
    rollback::{self, Extent},
    session::{Session, Wish},
};
use crate::ui::Ui;
use std::process::ExitCode;

/// Go back to blue, losing nothing, from wherever the migration is before the point of no return.
///
/// Takes back the cutover; green goes on as a copy. After the point of no return it refuses with exit code 6.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Take back the copy too, and leave nothing of ours on either side
    #[arg(long)]
    all: bool,
}

pub async fn run(args: RollbackArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_blue_green(&args.plan.plan, "rollback")?;
    let extent = if args.all { Extent::All } else { Extent::Cutover };
    if extent == Extent::All {
        rollback::look_first(&brief.plan).await?;
        if !ui.confirm("Drop the copy on green and everything of ours on both sides?")? {
            return Ok(ExitCode::SUCCESS);
        }
        if rollback::remove_rest(&brief.plan).await? {
            ui.say("an earlier `rollback --all` was cut short; now nothing of ours is left");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let session = Session::open(brief, Wish::TakeOver(rollback::REQUEST), ui.ears()).await?;
    let outcome = rollback::run(&session, extent).await;
    session.close(outcome).await?;
    ui.say(match extent {
        Extent::Cutover => "clients are with blue; green keeps its copy: `migrate replicate` follows on, or `rollback --all` removes it",
        Extent::All => "clients are with blue, and nothing of ours is left",
    });
    Ok(ExitCode::SUCCESS)
}
