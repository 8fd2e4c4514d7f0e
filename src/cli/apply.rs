use super::{
    brief::{self, PlanFile},
    stop,
};
use crate::error::Result;
use crate::journey::apply::{self, Applied};
use crate::ui::Ui;
use std::process::ExitCode;

/// Run the rewritten DDL of an in-place plan online, on the live database; resumable.
///
/// Brief locks are tried with a timeout, again and again, and blockers are named; CONCURRENTLY runs outside
/// transactions. How long other sessions wait for it is measured, told, and kept below `schema.brownout_max`.
/// Killed at any moment, it goes on when run again, and each statement takes effect once.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub async fn run(args: ApplyArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    match apply::run(brief, ui.ears(), stop::on_signal()).await? {
        Applied::Now { statements, waited } => {
            ui.say(&format!("applied {statements} statements; for them {waited}"));
        }
        Applied::Before => ui.say("an earlier run has applied all of it"),
    }
    Ok(ExitCode::SUCCESS)
}
