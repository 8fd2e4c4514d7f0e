use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::rollback::{self, Extent, Outcome};
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
    }
    ui.say(match (rollback::open_and_run(brief, extent, ui.ears()).await?, extent) {
        (Outcome::RestRemoved, _) => "an earlier run was cut short; now nothing of ours is left",
        (Outcome::BlueAlone, _) => "clients are with blue. Green does not answer, and its journal knows nothing of it: the next command tells it, as soon as green answers",
        (Outcome::Done, Extent::Cutover) => "clients are with blue; green keeps its copy: `migrate replicate` follows on, or `rollback --all` removes it",
        (Outcome::Done, Extent::All) => "clients are with blue, and nothing of ours is left",
    });
    Ok(ExitCode::SUCCESS)
}
