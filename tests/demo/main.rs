//! A whole migration, on throwaway servers: what `scripts/demo` runs.
//!
//! It plays three people: the applications, which never stop; the operator, who types the commands; and the auditor,
//! who compares what the applications were told with what is on green in the end.

#[allow(dead_code, unused_imports, reason = "shared with the tests, which use other parts")]
#[path = "../it/support/mod.rs"]
mod support;

mod operator;
mod stage;
mod table;

use anyhow::{Context, Result, bail};
use clap::Parser;
use operator::Operator;
use stage::Stage;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::history::{Baseline, History};
use support::scratch::Scratch;
use support::stop;
use support::traffic::{Load, Traffic};
use table::Outcome;

/// A whole migration on throwaway servers, from PostgreSQL 15 to 18, under traffic.
#[derive(Debug, Parser)]
struct Args {
    /// About how many rows to load.
    #[arg(long, default_value_t = 300_000)]
    rows: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Seconds of traffic before the operator begins, and again after the switch.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Makes the traffic's choices; the same seed makes the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leaves the operator out: traffic and its check on blue alone.
    #[arg(long)]
    only_servers: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match watched(&args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays, unless somebody asks to stop; either way nothing is left.
async fn watched(args: &Args) -> Result<u8> {
    let stopped = stop::stopped()?;
    let scratch = Scratch::new("demo")?;
    let ended = tokio::select! {
        played = play(args, &scratch) => played,
        () = stopped => {
            eprintln!("demo: stopping");
            Ok(stop::STOPPED)
        }
    };
    scratch.end();
    ended
}

async fn play(args: &Args, scratch: &Scratch) -> Result<u8> {
    let began = Instant::now();
    say("servers: PostgreSQL 15 (blue), PostgreSQL 18 (green), PgBouncer, RabbitMQ");
    let stage = Stage::set(scratch).await?;
    say(&format!("up after {:.1} s", began.elapsed().as_secs_f64()));

    let loading = Instant::now();
    let loaded = stage.load(args.rows).await?;
    say(&format!(
        "blue holds {} rows: {} clients, {} refresh tokens and what belongs to them ({:.1} s)",
        loaded.rows,
        loaded.clients,
        loaded.tokens,
        loading.elapsed().as_secs_f64()
    ));

    let baseline = Baseline::read(&stage.blue().await?, loaded).await?;
    let history = Arc::new(History::default());
    let load = Load { workers: args.clients, seed: args.seed, ..Load::default() };
    let traffic =
        Traffic::start(&stage.bouncer.app_url(), Arc::clone(&history), loaded.clients, &load).await?;
    say(&format!("{} clients issue, refresh, revoke and read tokens through PgBouncer", args.clients));
    let pause = Duration::from_secs(args.seconds);
    tokio::time::sleep(pause).await;

    let report =
        if args.only_servers { None } else { Some(operate(&stage, scratch, &history, pause).await?) };
    traffic.stop().await?;
    say(&format!(
        "the clients stopped, after {} acknowledged writes; checking each of them",
        history.acknowledged()
    ));

    let last = if args.only_servers { stage.blue().await? } else { stage.green().await? };
    let verdict = history.check(&last, &baseline).await?;
    let outcome = Outcome { verdict, report };
    outcome.print();
    say(&format!("the whole took {:.0} s", began.elapsed().as_secs_f64()));
    Ok(u8::from(!outcome.clean()))
}

/// The operator's part; gives the final report.
async fn operate(
    stage: &Stage,
    scratch: &Scratch,
    history: &History,
    pause: Duration,
) -> Result<serde_json::Value> {
    let operator = Operator::new(stage, scratch)?;
    operator.run("plan", &[]).await?;
    operator.run("check", &[]).await?;
    let replicate = operator.start("replicate")?;
    let replicate = operator.until_caught_up(replicate).await?;
    say(&format!(
        "green has caught up; {} writes so far, {} errors",
        history.acknowledged(),
        history.errors()
    ));
    tokio::time::sleep(pause).await;

    let before = history.acknowledged();
    operator.run("cutover", &[]).await?;
    replicate.handed_over().await?;
    tokio::time::sleep(pause).await;
    let on_green = history.acknowledged() - before;
    if on_green == 0 {
        bail!("no client wrote anything after the switch");
    }
    say(&format!("clients go on, on green: {on_green} writes since the cutover began"));

    operator.run("status", &[]).await?;
    operator.run("report", &[]).await?;
    let report = operator.json("report").await.context("the report as JSON")?;
    operator.run("finish", &["--yes"]).await?;
    tokio::time::sleep(pause / 2).await;
    Ok(report)
}

/// A line of the demo itself, told apart from the commands' output.
fn say(text: &str) {
    println!("\n── {text}");
}
