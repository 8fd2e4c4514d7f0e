//! Following, measured: one backlog, replayed by us, by a native subscription and by a reader that writes nothing.
//!
//! A slot on blue keeps the backlog; every consumer gets a copy of the slot and a fresh clone of green's database as of
//! that slot, so that one backlog is replayed any number of times. Consumers take turns, since machines are noisy.

#[allow(dead_code, unused_imports, reason = "shared with the tests, which use other parts")]
#[path = "../../it/support/mod.rs"]
mod support;

mod consumer;
mod report;
mod servers;
mod work;

use anyhow::{Result, bail};
use report::Report;
use servers::Servers;
use std::io::Write;
use support::scratch::Scratch;
use support::stop;
use work::{WORKS, Work};

/// What was asked for.
struct Options {
    pairs: usize,
    only: Option<String>,
    rows: u64,
    json: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("consume", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return consumer::consume(rest).await;
    }
    let options = read(&args)?;
    let stopped = stop::stopped()?;
    tokio::select! {
        outcome = run(&options) => outcome,
        () = stopped => bail!("stopped"),
    }
}

fn read(args: &[String]) -> Result<Options> {
    let mut options = Options { pairs: 5, only: None, rows: 1_200_000, json: None };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let Some(value) = args.next() else { bail!("{name} needs a value") };
        match name.as_str() {
            "--pairs" => options.pairs = value.parse()?,
            "--rows" => options.rows = value.parse()?,
            "--only" => options.only = Some(value.clone()),
            "--json" => options.json = Some(value.clone()),
            _ => bail!("unknown option {name}; there are --pairs, --only, --rows and --json"),
        }
    }
    if options.pairs == 0 || options.rows < 100 {
        bail!("at least one pair and 100 rows are needed");
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<()> {
    let wanted = |work: &&Work| options.only.as_deref().is_none_or(|only| only == work.name);
    let works: Vec<&Work> = WORKS.iter().filter(wanted).collect();
    if works.is_empty() {
        let names: Vec<_> = WORKS.iter().map(|work| work.name).collect();
        bail!("no such work; there are {}", names.join(", "));
    }
    for work in works {
        let scratch = Scratch::new("bench")?;
        let report = measure(&scratch, work, options).await?;
        println!("{}\n{}", report.table(), report.json());
        if let Some(path) = &options.json {
            writeln!(std::fs::File::options().create(true).append(true).open(path)?, "{}", report.json())?;
        }
    }
    Ok(())
}

async fn measure(scratch: &Scratch, work: &Work, options: &Options) -> Result<Report> {
    let servers = Servers::start(scratch, work.green).await?;
    eprintln!("{}: loading", work.name);
    let backlog = work.prepare(scratch, &servers, options.rows).await?;
    eprintln!(
        "{}: a backlog of {} changes in {} transactions",
        work.name, backlog.changes, backlog.transactions
    );
    let mut report = Report::new(work.name, backlog.changes);
    for pair in 0..options.pairs {
        // The order turns, so that no consumer always follows the same other one.
        for turn in 0..3 {
            let which = (pair + turn) % 3;
            let run = match which {
                0 => consumer::ours(&servers, &backlog).await?,
                1 => consumer::native(&servers, &backlog).await?,
                _ => consumer::limit(&servers, &backlog).await?,
            };
            if pair == 0 && which < 2 {
                servers.compare(&backlog).await?;
            }
            eprintln!("{}: pair {} {}: {run}", work.name, pair + 1, ["ours", "native", "limit"][which]);
            report.add(which, run);
        }
    }
    Ok(report)
}
