use super::brief::{self, PlanFile};
use crate::error::Result;
use crate::journey::report::{self, Report};
use crate::ui::{Ui, numbers};
use std::process::ExitCode;

/// Show what happened, when, with evidence.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Text for people, JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

pub async fn run(args: ReportArgs, ui: &Ui) -> Result<ExitCode> {
    let brief = brief::read_valid(&args.plan.plan)?;
    let report = report::open_and_read(&brief.plan).await?;
    show(ui, &report, args.format)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(ui: &Ui, report: &Report, format: Format) -> Result<()> {
    if format == Format::Json || ui.is_json() {
        ui.print_json(report)
    } else {
        ui.print(&render(report));
        Ok(())
    }
}

fn render(report: &Report) -> String {
    let mut text =
        format!("{}, attempt {}, fingerprint {}\n", report.plan, report.attempt, report.fingerprint);
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<12} {value}\n"));
    if let Some(copy) = &report.copy {
        line("copied", format!("{} tables, {} rows, {}", copy.tables, copy.rows, numbers::bytes(copy.bytes)));
    }
    for table in &report.tables {
        let rate = match table.seconds > 0.0 {
            true => format!(", {}", numbers::rate(table.bytes as f64 / table.seconds)),
            false => String::new(),
        };
        let size = numbers::bytes(table.bytes);
        line("", format!("{}: {} rows, {size}, {:.1} s{rate}", table.table, table.rows, table.seconds));
    }
    for change in &report.accepted_ddl {
        line("on blue", format!("{change}: harmless"));
    }
    if let Some(moment) = &report.moment {
        line("moment", format!("green is as blue was at {}, {:.0}", moment.lsn, moment.at));
    }
    for table in report.lost.iter().flat_map(|lost| &lost.tables) {
        line("lost", super::status::lost(table));
    }
    for table in report.lost.iter().flat_map(|lost| &lost.not_known) {
        line("lost", format!("{}: not known, blue's counters began anew or are off", table.plain()));
    }
    if let Some(fence) = &report.fence {
        let drained = match report.moment {
            Some(_) => String::new(),
            None => format!(", green drained in {} ms", fence.drain_ms),
        };
        line("fence", format!("at {}: writers locked out in {} ms{drained}", fence.lsn, fence.lock_ms));
        if report.moment.is_none() {
            line("compared", format!("{} keys changed last", fence.keys_compared));
        }
        for sequence in &fence.sequences_left_out {
            line("not carried", format!("sequence {sequence}: green does not have it any more"));
        }
        line("sequences", format!("{} carried", fence.sequences));
    }
    if let Some(held_ms) = report.held_ms {
        line("held", format!("clients for {held_ms} ms"));
    }
    if let Some(revocations) = &report.revocations {
        line(
            "revocations",
            format!(
                "{} captured, {} replayed, {} parked, {} still valid on green",
                revocations.captured, revocations.replayed, revocations.parked, revocations.still_valid
            ),
        );
    }
    text.push('\n');
    for entry in &report.journal {
        text.push_str(&format!(
            "  {:.3}  {:<4} {:<28} {}\n",
            entry.at,
            entry.epoch,
            entry.step,
            entry.event.as_str()
        ));
    }
    text
}
