use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::finding::any_blocking;
use crate::journey::observe;
use crate::ui::Ui;
use std::process::ExitCode;

/// Look at the live servers for what would lose data or break blue. Changes nothing.
///
/// The very checks that `replicate` runs before it begins. Exits 3 when a finding is blocking.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub async fn run(args: CheckArgs, ui: &Ui) -> Result<ExitCode> {
    let (brief, mut findings) = brief::read(&args.plan.plan)?;
    if !any_blocking(&findings) {
        findings.extend(observe::connect_and_observe(&brief.plan, ui.ears()).await?.judge(&brief.plan));
    }
    ui.findings(&findings);
    Ok(if any_blocking(&findings) { ExitCode::from(3) } else { ExitCode::SUCCESS })
}
