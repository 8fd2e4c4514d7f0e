//! Following, measured: one backlog, replayed by us, by a native subscription and by a reader that writes nothing.
//!
//! A slot on blue keeps the backlog; every consumer gets a copy of the slot and a fresh clone of green's database as of
//! that slot, so that one backlog is replayed any number of times. Consumers take turns, since machines are noisy.

mod consumer;
mod work;

pub use consumer::consume;
pub use work::WORKS;

use crate::Options;
use crate::report::Report;
use crate::servers::Servers;
use crate::support::scratch::Scratch;
use anyhow::Result;
use work::Work;

/// The whole backlog's changes, where nothing else is asked for.
const CHANGES: u64 = 1_200_000;

/// Who replays it. The limit only reads.
const CONSUMERS: [&str; 3] = ["ours", "native", "limit"];

/// Measures one work on servers of its own.
pub async fn measure(work: &Work, options: &Options) -> Result<Report> {
    let scratch = Scratch::new("bench")?;
    let servers = Servers::start(&scratch, work.green).await?;
    eprintln!("{}: loading", work.name);
    let backlog = work.prepare(&scratch, &servers, options.rows.unwrap_or(CHANGES)).await?;
    eprintln!(
        "{}: a backlog of {} changes in {} transactions",
        work.name, backlog.changes, backlog.transactions
    );
    let mut report = Report::new(work.name, (backlog.changes, "changes"), &CONSUMERS);
    for pair in 0..options.pairs {
        // The order turns, so that no consumer always follows the same other one.
        for turn in 0..CONSUMERS.len() {
            let which = (pair + turn) % CONSUMERS.len();
            let run = match which {
                0 => consumer::ours(&servers, &backlog).await?,
                1 => consumer::native(&servers, &backlog).await?,
                _ => consumer::limit(&servers, &backlog).await?,
            };
            if pair == 0 && which < 2 {
                servers.compare(&backlog.tables).await?;
            }
            eprintln!("{}: pair {} {}: {run}", work.name, pair + 1, CONSUMERS[which]);
            report.add(which, run);
        }
    }
    Ok(report)
}
