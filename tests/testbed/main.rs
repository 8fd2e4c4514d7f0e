//! Starts the servers the live tests share, runs a command beside them, and ends them with it.
//!
//! `cargo run --example testbed -- cargo nextest run`
//!
//! `MIGRATE_TESTBED_MAJORS` names the servers to start; two of one major let two tests run at once.

#[allow(dead_code, unused_imports, reason = "shared with the tests, which use other parts")]
#[path = "../it/support/mod.rs"]
mod support;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::process::ExitCode;
use std::time::Duration;
use support::cluster::{Cluster, fresh_password};
use support::rabbitmq::RabbitMq;
use support::scratch::Scratch;
use support::shared::{self, Shared};
use support::stop;
use tokio::process::{Child, Command};

/// Two pairs of the usual majors, so that two tests run at once, and one server of each other major.
const MAJORS: &str = "15,15,16,17,18,18";
/// How long the command may take to end after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((program, args)) = args.split_first() else {
        eprintln!("usage: testbed COMMAND [ARGUMENTS…]");
        return ExitCode::from(2);
    };
    match run(program, args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(program: &str, args: &[String]) -> Result<u8> {
    let stopped = stop::stopped()?;
    tokio::pin!(stopped);

    let scratch = Scratch::new("testbed")?;
    let began = std::time::Instant::now();
    let servers = tokio::select! {
        servers = start(&scratch) => servers?,
        () = &mut stopped => return Ok(stop::STOPPED),
    };
    eprintln!("testbed: servers are up after {:.1} s", began.elapsed().as_secs_f64());

    let mut child = Command::new(program)
        .args(args)
        .env(shared::VARIABLE, servers.file)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    tokio::select! {
        status = child.wait() => Ok(status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        () = &mut stopped => {
            end(&mut child).await;
            Ok(stop::STOPPED)
        }
    }
}

/// The running servers, and the file that says where they are.
struct Servers {
    file: std::path::PathBuf,
    _clusters: Vec<Cluster>,
    _rabbit: RabbitMq,
}

async fn start(scratch: &Scratch) -> Result<Servers> {
    let majors = std::env::var("MIGRATE_TESTBED_MAJORS").unwrap_or_else(|_| MAJORS.into());
    let majors: Vec<u32> = majors
        .split(',')
        .map(|major| major.trim().parse().with_context(|| format!("MIGRATE_TESTBED_MAJORS: {major:?}")))
        .collect::<Result<_>>()?;
    if majors.is_empty() {
        bail!("MIGRATE_TESTBED_MAJORS names no server");
    }
    let password = fresh_password();
    let clusters = majors.iter().map(|major| Cluster::start(scratch, *major, &password));
    let (clusters, rabbit) =
        tokio::try_join!(futures_util::future::try_join_all(clusters), RabbitMq::start(scratch))?;
    let shared = Shared {
        directory: scratch.directory("leases", None)?,
        servers: clusters.iter().map(|cluster| cluster.server.clone()).collect(),
        node: rabbit.node.clone(),
    };
    let file = scratch.path().join("testbed.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&shared)?)?;
    Ok(Servers { file, _clusters: clusters, _rabbit: rabbit })
}

/// The command had our Ctrl-C too, if it came from a terminal; if it does not end by itself, it is told, then killed.
async fn end(child: &mut Child) {
    if tokio::time::timeout(Duration::from_secs(2), child.wait()).await.is_ok() {
        return;
    }
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
