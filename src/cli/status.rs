use super::{
    brief::{self, PlanFile},
    report::Format,
};
use crate::engine::status::Status as Progress;
use crate::error::Result;
use crate::facts::{TableWrites, Writes};
use crate::journey::status::{self, Status};
use crate::ui::{Ui, numbers};
use std::process::ExitCode;

/// Show where the migration is, what it waits for, and what to type next. Needs no lease.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Text for people, JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(args: StatusArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    let status = status::read(&brief).await?;
    if args.format == Format::Json || ui.is_json() {
        ui.print_json(&status)?;
    } else {
        ui.print(&render(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a table of blue has got and green has not.
pub(super) fn lost(written: &TableWrites) -> String {
    let Writes { inserted, updated, deleted } = written.writes;
    let count = numbers::count;
    format!(
        "{}: about {} inserted, {} updated, {} deleted",
        written.table.plain(),
        count(inserted),
        count(updated),
        count(deleted)
    )
}

fn render(status: &Status) -> String {
    let mut text = format!("{}: {}\nnext: {}\n", status.plan, status.summary, status.next);
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<12} {value}\n"));
    if let (Some(attempt), Some(fingerprint)) = (status.attempt, &status.fingerprint) {
        line("attempt", format!("{attempt}, fingerprint {fingerprint}"));
    }
    line("at work", status.holder.clone().unwrap_or_else(|| "nobody".into()));
    if let Some(copy) = &status.copy {
        line(
            "copy",
            format!(
                "{} of {} tables, {} rows, {}",
                copy.tables_done,
                copy.tables,
                copy.rows,
                numbers::bytes(copy.bytes.unsigned_abs())
            ),
        );
        if let Some(limit) = &copy.throttled_by {
            line("throttled", format!("by {limit}: the copy waits until blue is calm"));
        }
        if let Some(age_ms) = copy.snapshot_age_ms {
            line("held", format!("a snapshot on blue, {:.1} s old", age_ms as f64 / 1000.0));
        }
    }
    if let Some(follow) = &status.follow {
        let lag = follow
            .lag_bytes
            .map_or_else(|| "blue cannot be reached".into(), |lag| format!("{} behind", numbers::bytes(lag)));
        let reader = match follow.active {
            Some(true) => "followed",
            Some(false) => "followed by nobody",
            None => "unknown",
        };
        line(
            "follow",
            format!("at {}, {lag}, {} transactions, {reader}", follow.commit_lsn, follow.transactions),
        );
        if let Some(retained) = follow.retained_wal_bytes {
            line("kept WAL", format!("{} on blue", numbers::bytes(retained.unsigned_abs())));
        }
    }
    if let Some(moment) = &status.moment {
        let age = moment
            .age_ms
            .map_or_else(String::new, |ms| format!(", {} ago", numbers::seconds(ms as f64 / 1000.0)));
        line("moment", format!("green is as blue was at {}, {:.0}{age}", moment.lsn, moment.at));
        for table in moment.written_since.iter().flatten() {
            line("lost so far", lost(table));
        }
        for table in &moment.not_known {
            line(
                "lost so far",
                format!("{}: not known, blue's counters began anew or are off", table.plain()),
            );
        }
    }
    if let Some(gate) = &status.blue_gate {
        line("blue", gate.clone());
    }
    if let Some(gate) = &status.green_gate {
        line("green", gate.clone());
    }
    for phase in &status.phases {
        let done = phase.steps.iter().filter(|(_, status)| status.is_done()).count();
        let midway = |status: Progress| !status.is_done() && status != Progress::New;
        line(phase.name.as_str(), format!("{done} of {} steps done", phase.steps.len()));
        for (step, status) in phase.steps.iter().filter(|(_, status)| midway(*status)) {
            line("", format!("{step}: {status:?}"));
        }
    }
    text
}
