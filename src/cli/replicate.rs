use super::{
    brief::{self, PlanFile},
    stop,
};
use crate::error::Result;
use crate::journey::replicate::{self, Ended, Request, Until};
use crate::ui::Ui;
use std::process::ExitCode;

/// Copy blue to green, then follow it until stopped; safe to kill and start again.
///
/// In `mode: snapshot` it runs `schema.after_copy` on the copy, and then captures revocations until stopped; without
/// revocation rules it ends by itself.
///
/// The first run pins the plan: later commands refuse an edited one. A running `migrate cutover` or `migrate rollback`
/// asks it to step aside, and it exits 0.
#[derive(Debug, clap::Args)]
pub struct ReplicateArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// End by itself once green has caught up, for scripts and CI
    #[arg(long)]
    until_caught_up: bool,
    /// Refuse any other runbook than the one with this fingerprint
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

pub async fn run(args: ReplicateArgs, ui: &Ui) -> Result<ExitCode> {
    let mut brief = brief::read_blue_green(&args.plan.plan, "replicate")?;
    brief.fingerprint = args.fingerprint;
    let until = if args.until_caught_up { Until::CaughtUp } else { Until::Stopped };
    let is_snapshot = brief.plan.is_snapshot();
    let request = Request { brief, plan_file: args.plan.plan, until };
    match replicate::run(&request, stop::on_signal(), ui.ears()).await? {
        Ended::Stopped if is_snapshot => {
            ui.say("stopped; blue keeps its WAL for revocations: run it again soon")
        }
        Ended::Stopped => ui.say("stopped; green keeps its place, and blue keeps its WAL: run it again soon"),
        Ended::SteppedAside { command } => ui.say(&format!("stepped aside for `migrate {command}`")),
        Ended::CaughtUp if is_snapshot => {
            ui.say("green has its copy, and every revocation until now is captured")
        }
        Ended::CaughtUp => ui.say("green has caught up"),
        Ended::Copied => {
            ui.say("green has its copy, and nothing is carried after it; next: `migrate cutover`")
        }
    }
    Ok(ExitCode::SUCCESS)
}
