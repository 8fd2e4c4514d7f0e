//! Those who replay the backlog.

use super::work::{Backlog, Commits};
use crate::report::Run;
use crate::servers::{Clocks, DATABASE, Servers};
use anyhow::{Context, Result, bail};
use migrate::event::Deaf;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::lsn::Lsn;
use migrate::pg::name::{Ident, TableName};
use migrate::stream::follow::{FollowSpec, FollowTable, Follower};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio_postgres::Client;

/// Nobody may take longer.
const PATIENCE: Duration = Duration::from_secs(900);

/// Our slot, which a turn of ours begins with.
pub const OUR_SLOT: &str = "bench_ours";
/// The subscription's slot.
pub const NATIVE_SLOT: &str = "bench_native";

/// Ours, in a process of its own; from its start until all is visible on green.
pub async fn ours(servers: &Servers, backlog: &Backlog, commits: Commits) -> Result<Run> {
    backlog.reset(servers, OUR_SLOT).await?;
    let before = Clocks::read(servers).await?;
    let mut child = start_ours(servers, backlog, backlog.last_change, commits)?;
    let output = child.stdout.take().context("the consumer has no output")?;
    let mut lines = BufReader::new(output).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??.context("the consumer failed")?;
    let seconds = before.began.elapsed().as_secs_f64();
    if !child.wait().await?.success() {
        bail!("the consumer failed");
    }
    let mut run = before.run(servers, seconds).await?;
    run.note = line;
    Ok(run)
}

/// A process that follows until green has passed a position.
pub fn start_ours(servers: &Servers, backlog: &Backlog, end: Lsn, commits: Commits) -> Result<Child> {
    Ok(tokio::process::Command::new(std::env::current_exe()?)
        .arg("consume")
        .args([servers.blue.server.url(DATABASE), servers.green.server.url(DATABASE)])
        .args([end.to_string(), backlog.tables.join(","), backlog.keys.join(",")])
        .arg(commits.setting())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

/// The part of [`ours`] in the other process.
pub async fn consume(args: &[String]) -> Result<()> {
    let [blue, green, end, tables, keys, commits] = args else { bail!("this is not for people") };
    let end: Lsn = end.parse().map_err(anyhow::Error::msg)?;
    let table = |(name, key): (&str, &str)| FollowTable {
        blue: TableName::new("public", name),
        green: TableName::new("public", name),
        key: vec![Ident::new(key)],
        mapping: None,
    };
    let spec = FollowSpec {
        blue: ConnInfo::parse(blue).map_err(|error| anyhow::anyhow!("{error}"))?,
        green: ConnInfo::parse(green).map_err(|error| anyhow::anyhow!("{error}"))?,
        slot: OUR_SLOT.into(),
        publication: "bench".into(),
        attempt: 0,
        epoch: 1,
        tables: tables.split(',').zip(keys.split(',')).map(table).collect(),
        joined: Vec::new(),
        dirty_keys: 1000,
        retained_wal_max_bytes: u64::MAX,
    };
    let follower = Follower::start(spec, Arc::new(Deaf));
    if commits == Commits::Synchronous.setting() {
        follower.durable(true).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let mut status = follower.status();
    let reached = status.wait_for(|status| status.applied > end || status.failed.is_some()).await?.clone();
    if let Some(failed) = reached.failed {
        bail!("{failed}");
    }
    println!(
        "{} batches by sets, {} replayed, {}",
        reached.set_based,
        reached.replayed,
        used().unwrap_or_default()
    );
    follower.stop(PATIENCE).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(())
}

/// Memory and CPU of this process.
fn used() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().to_owned();
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(format!("peak {resident}, {ticks} CPU ticks"))
}

/// Makes a subscription that does not run yet.
pub async fn subscribe(servers: &Servers, commits: Commits) -> Result<Client> {
    let green = servers.green().await?;
    let blue = &servers.blue.server;
    green
        .batch_execute(&format!(
            "create subscription bench connection 'host=127.0.0.1 port={} user=postgres password={} dbname={DATABASE}' publication bench
             with (copy_data = false, create_slot = false, slot_name = '{NATIVE_SLOT}', enabled = false, synchronous_commit = {})",
            blue.port,
            blue.password,
            commits.setting()
        ))
        .await?;
    Ok(green)
}

/// Ends it.
pub async fn unsubscribe(servers: &Servers, green: &Client) -> Result<()> {
    green.batch_execute("alter subscription bench disable").await?;
    green.batch_execute("alter subscription bench set (slot_name = none)").await?;
    green.batch_execute("drop subscription bench").await?;
    drop_slot(servers, NATIVE_SLOT).await
}

/// A subscription; from its start until its origin has the end.
pub async fn native(servers: &Servers, backlog: &Backlog, commits: Commits) -> Result<Run> {
    backlog.reset(servers, NATIVE_SLOT).await?;
    let green = subscribe(servers, commits).await?;
    let before = Clocks::read(servers).await?;
    green.batch_execute("alter subscription bench enable").await?;
    let sql = "select coalesce(max(o.remote_lsn) >= $1::text::pg_lsn, false) from pg_replication_origin_status o \
               join pg_subscription s on o.external_id = 'pg_' || s.oid where s.subname = 'bench'";
    let last = backlog.last_change.to_string();
    loop {
        if green.query_one(sql, &[&last]).await?.get(0) {
            break;
        }
        if before.began.elapsed() > PATIENCE {
            bail!("the subscription did not arrive");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = before.began.elapsed().as_secs_f64();
    let run = before.run(servers, seconds).await?;
    unsubscribe(servers, &green).await?;
    Ok(run)
}

/// Drops a slot as soon as nobody reads it.
pub async fn drop_slot(servers: &Servers, slot: &str) -> Result<()> {
    let blue = servers.blue().await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1";
    while let Err(error) = blue.execute(sql, &[&slot]).await {
        if Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// pg_recvlogical to nowhere: what decoding alone takes.
pub async fn limit(servers: &Servers, backlog: &Backlog) -> Result<Run> {
    backlog.reset(servers, "bench_limit").await?;
    let (url, end) = (servers.blue.server.url(DATABASE), backlog.end.to_string());
    let before = Clocks::read(servers).await?;
    let args = [
        "-d",
        &url,
        "-S",
        "bench_limit",
        "--start",
        "--endpos",
        &end,
        "--no-loop",
        "-o",
        "proto_version=1",
        "-o",
        "publication_names=bench",
        "-f",
        "/dev/null",
        "-s",
        "0",
    ];
    tokio::time::timeout(PATIENCE, servers.run("pg_recvlogical", &args)).await??;
    let seconds = before.began.elapsed().as_secs_f64();
    let run = before.run(servers, seconds).await?;
    drop_slot(servers, "bench_limit").await?;
    Ok(run)
}
