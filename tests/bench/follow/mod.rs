//! Following, measured: one backlog, replayed by us, by a native subscription and by a reader that writes nothing.
//!
//! A slot on blue keeps the backlog; every consumer gets a copy of the slot and a fresh clone of green's database as of
//! that slot, so that one backlog is replayed any number of times. Consumers take turns, since machines are noisy.

mod consumer;
mod steady;
mod work;

pub use consumer::consume;
pub use steady::measure as measure_steady;
pub use work::WORKS;

use crate::Options;
use crate::report::Report;
use crate::servers::Servers;
use crate::support::scratch::Scratch;
use anyhow::{Result, bail};
use work::Work;

/// Who replays it. The limit only reads.
const CONSUMERS: [&str; 3] = ["ours", "native", "limit"];

/// Those of them that were asked for.
fn consumers(options: &Options) -> Result<Vec<&'static str>> {
    let wanted: Vec<_> = CONSUMERS.into_iter().filter(|name| options.takes_part(name)).collect();
    if wanted.is_empty() {
        bail!("nobody of {} follows", options.who.join(", "));
    }
    Ok(wanted)
}

/// Measures one work on servers of its own.
pub async fn measure(work: &Work, options: &Options) -> Result<Report> {
    let consumers = consumers(options)?;
    let scratch = Scratch::new("bench")?;
    let servers = Servers::start(&scratch, work.green).await?;
    eprintln!("{}: loading", work.name);
    let backlog = work.prepare(&scratch, &servers, options.rows.unwrap_or(work.changes)).await?;
    eprintln!(
        "{}: a backlog of {} changes in {} transactions",
        work.name, backlog.changes, backlog.transactions
    );
    let mut report = Report::new(work.name, (backlog.changes, "changes"), &consumers);
    for pair in 0..options.pairs {
        // The order turns, so that no consumer always follows the same other one.
        for turn in 0..consumers.len() {
            let which = (pair + turn) % consumers.len();
            let name = consumers[which];
            let run = match name {
                "ours" => consumer::ours(&servers, &backlog, work.commits).await?,
                "native" => consumer::native(&servers, &backlog, work.commits).await?,
                _ => consumer::limit(&servers, &backlog).await?,
            };
            if pair == 0 && name != "limit" {
                servers.compare(&backlog.tables).await?;
            }
            eprintln!("{}: pair {} {name}: {run}", work.name, pair + 1);
            report.add(which, run);
        }
    }
    Ok(report)
}
