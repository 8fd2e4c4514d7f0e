//! What `scripts/bench copy`, `follow` and `steady` measure: us and our peers on one piece of work, in turns.

#[allow(dead_code, unused_imports, reason = "shared with the tests, which use other parts")]
#[path = "../it/support/mod.rs"]
mod support;

mod copy;
mod follow;
mod report;
mod servers;

use anyhow::{Context, Result, bail};
use mimalloc::MiMalloc;
use report::Report;
use std::io::Write;
use support::stop;

/// As in the program: what is measured here is to be what users run.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What was asked for.
struct Options {
    pairs: usize,
    only: Option<String>,
    rows: Option<u64>,
    json: Option<String>,
    /// Who takes part; everybody when empty.
    who: Vec<String>,
}

impl Options {
    fn takes_part(&self, name: &str) -> bool {
        self.who.is_empty() || self.who.iter().any(|who| who == name)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (what, rest) = args.split_first().context("say what to measure: copy, follow or steady")?;
    if what == "consume" {
        return follow::consume(rest).await;
    }
    let options = read(rest)?;
    let stopped = stop::stopped()?;
    tokio::select! {
        outcome = run(what, &options) => outcome,
        () = stopped => bail!("stopped"),
    }
}

fn read(args: &[String]) -> Result<Options> {
    let mut options = Options { pairs: 5, only: None, rows: None, json: None, who: Vec::new() };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let Some(value) = args.next() else { bail!("{name} needs a value") };
        match name.as_str() {
            "--pairs" => options.pairs = value.parse()?,
            "--rows" => options.rows = Some(value.parse()?),
            "--only" => options.only = Some(value.clone()),
            "--json" => options.json = Some(value.clone()),
            "--who" => options.who = value.split(',').map(str::to_owned).collect(),
            _ => bail!("unknown option {name}; there are --pairs, --only, --rows, --json and --who"),
        }
    }
    if options.pairs == 0 || options.rows.is_some_and(|rows| rows < 100) {
        bail!("at least one pair and 100 rows are needed");
    }
    Ok(options)
}

async fn run(what: &str, options: &Options) -> Result<()> {
    if what == "steady" {
        let text = follow::measure_steady(options).await?;
        println!("{text}");
        return keep(text.lines().filter(|line| line.starts_with('{')), options);
    }
    let names: Vec<&str> = match what {
        "copy" => copy::WORKS.iter().map(|work| work.name).collect(),
        "follow" => follow::WORKS.iter().map(|work| work.name).collect(),
        _ => bail!("{what} cannot be measured; say copy, follow or steady"),
    };
    let wanted = |at: &usize| options.only.as_deref().is_none_or(|only| only == names[*at]);
    let works: Vec<usize> = (0..names.len()).filter(wanted).collect();
    if works.is_empty() {
        bail!("no such work; there are {}", names.join(", "));
    }
    for at in works {
        let report = match what {
            "copy" => copy::measure(&copy::WORKS[at], options).await?,
            _ => follow::measure(&follow::WORKS[at], options).await?,
        };
        tell(&report, options)?;
    }
    Ok(())
}

fn tell(report: &Report, options: &Options) -> Result<()> {
    println!("{}\n{}", report.table(), report.json());
    keep([report.json().as_str()].into_iter(), options)
}

/// Appends lines of JSON to the file that was asked for.
fn keep<'a>(lines: impl Iterator<Item = &'a str>, options: &Options) -> Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let mut file = std::fs::File::options().create(true).append(true).open(path)?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    Ok(())
}
