//! The first copy, measured: from an empty green until it has all rows, indexes and constraints.
//!
//! Blue is loaded once; green is made anew for every contender. Contenders take turns, since machines are noisy.

mod contender;
mod work;

pub use work::WORKS;

use crate::Options;
use crate::report::{Report, Run};
use crate::servers::Servers;
use crate::support::scratch::Scratch;
use anyhow::{Result, bail};
use contender::Contender;
use std::path::Path;
use work::Work;

/// Measures one work on servers of its own.
pub async fn measure(work: &Work, options: &Options) -> Result<Report> {
    let scratch = Scratch::new("bench")?;
    let servers = Servers::start(&scratch, work.green).await?;
    let mut contenders = Contender::all(&servers).await?;
    contenders.retain(|contender| options.takes_part(contender.name()));
    if contenders.is_empty() {
        bail!("nobody of {} copies", options.who.join(", "));
    }
    eprintln!("{}: loading", work.name);
    let rows = work.load(&servers, options.rows).await?;
    eprintln!("{}: {rows} rows", work.name);
    let names: Vec<&'static str> = contenders.iter().map(Contender::name).collect();
    let mut report = Report::new(work.name, (rows, "rows"), &names);
    for pair in 0..options.pairs {
        // The order turns, so that no contender always follows the same other one.
        for turn in 0..contenders.len() {
            let which = (pair + turn) % contenders.len();
            let run = take_turn(&contenders[which], &servers, scratch.path(), work, pair == 0).await?;
            eprintln!("{}: pair {} {}: {run}", work.name, pair + 1, names[which]);
            report.add(which, run);
        }
    }
    Ok(report)
}

/// Gives one contender an empty green, and looks afterwards whether all is there; row by row the first time.
async fn take_turn(
    contender: &Contender,
    servers: &Servers,
    scratch: &Path,
    work: &Work,
    is_first: bool,
) -> Result<Run> {
    contender::empty_green(servers).await?;
    let directory = scratch.join("turn");
    std::fs::create_dir(&directory)?;
    let run = contender.copy(servers, &directory, work).await?;
    if contender.copies() {
        contender::compare_objects(servers, contender.name()).await?;
        if is_first {
            servers.compare(work.tables()).await?;
        }
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(run)
}
