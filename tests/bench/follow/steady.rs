//! Following while blue is in use: how long after its commit on blue a row is visible on green.

use super::consumer::{self, NATIVE_SLOT, OUR_SLOT};
use super::work::{Backlog, Commits, STEADY};
use crate::Options;
use crate::servers::{DATABASE, Servers};
use crate::support::scratch::Scratch;
use anyhow::{Context, Result, bail};
use migrate::pg::lsn::Lsn;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

/// Transactions a second beside the heartbeats, and the clients that send them.
const RATE: &str = "500";
const CLIENTS: &str = "4";
/// Heartbeats of a turn, one each so often.
const HEARTBEATS: i64 = 400;
const EVERY: Duration = Duration::from_millis(50);
/// Between two looks at green; with half a millisecond what the second look saw was told as three times what the first saw.
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// Those before the first that counts: caches are cold, and the backlog of the turns before is still being read.
const WARM_UP: i64 = 40;
/// Longer than this, and nobody follows.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds of one turn.
struct Lag {
    p50: f64,
    p99: f64,
}

/// Measures ours and native in turns; prints a line a turn, a table and one line of JSON for each quantile.
pub async fn measure(options: &Options) -> Result<String> {
    let scratch = Scratch::new("bench")?;
    let servers = Servers::start(&scratch, STEADY.green).await?;
    eprintln!("{}: loading", STEADY.name);
    let backlog = STEADY.prepare(&scratch, &servers, options.rows.unwrap_or(STEADY.changes)).await?;
    let names = ["ours", "native"];
    let mut lags: [Vec<Lag>; 2] = [Vec::new(), Vec::new()];
    for pair in 0..options.pairs {
        for turn in 0..names.len() {
            let which = (pair + turn) % names.len();
            let lag = match names[which] {
                "ours" => ours(&servers, &backlog).await?,
                _ => native(&servers, &backlog).await?,
            };
            eprintln!(
                "{}: pair {} {}: p50 {:.2} ms, p99 {:.2} ms",
                STEADY.name,
                pair + 1,
                names[which],
                lag.p50,
                lag.p99
            );
            lags[which].push(lag);
        }
    }
    Ok(report(&lags))
}

fn report([ours, native]: &[Vec<Lag>; 2]) -> String {
    let mut text =
        format!("{:<28}{:>10}{:>10}{:>16}\n", STEADY.name, "ours ms", "native ms", "ours / native");
    let mut lines = String::new();
    for (name, of) in [("p50", (|lag| lag.p50) as fn(&Lag) -> f64), ("p99", |lag| lag.p99)] {
        let all = |lags: &[Lag]| lags.iter().map(of).collect::<Vec<_>>();
        let (mine, theirs) = (quantile(all(ours), 50), quantile(all(native), 50));
        text += &format!("{name:<28}{mine:>10.2}{theirs:>10.2}{:>16.2}\n", mine / theirs);
        let rounded =
            |lags: &[Lag]| all(lags).iter().map(|ms| (ms * 1000.0).round() / 1000.0).collect::<Vec<_>>();
        let line = serde_json::json!({
            "work": format!("{}/{name}", STEADY.name), "unit": "ms",
            "ours": rounded(ours), "peers": { "native": rounded(native) },
        });
        lines += &format!("{line}\n");
    }
    text + lines.trim_end()
}

async fn ours(servers: &Servers, backlog: &Backlog) -> Result<Lag> {
    backlog.reset(servers, OUR_SLOT).await?;
    let never = Lsn(u64::MAX);
    let mut child = consumer::start_ours(servers, backlog, never, Commits::Asynchronous)?;
    let lag = beat(servers).await;
    child.kill().await?;
    consumer::drop_slot(servers, OUR_SLOT).await?;
    lag
}

async fn native(servers: &Servers, backlog: &Backlog) -> Result<Lag> {
    backlog.reset(servers, NATIVE_SLOT).await?;
    let green = consumer::subscribe(servers, Commits::Asynchronous).await?;
    green.batch_execute("alter subscription bench enable").await?;
    let lag = beat(servers).await;
    consumer::unsubscribe(servers, &green).await?;
    lag
}

/// Heartbeats beside traffic.
async fn beat(servers: &Servers) -> Result<Lag> {
    let (blue, green) = (servers.blue().await?, servers.green().await?);
    let first: i64 =
        blue.query_one("select coalesce(max(id), 0) + 1 from public.heartbeat", &[]).await?.get(0);
    // Until the backlog of the turns before is there, the machine belongs to it.
    seen_after(&blue, &green, first).await?;
    let mut traffic = traffic(servers)?;
    let mut lags = Vec::new();
    for beat in 1..=WARM_UP + HEARTBEATS {
        let began = Instant::now();
        let lag = seen_after(&blue, &green, first + beat).await?;
        if beat > WARM_UP {
            lags.push(lag.as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await;
    }
    if let Some(status) = traffic.try_wait()? {
        bail!("pgbench ended before the heartbeats did: {status}");
    }
    traffic.kill().await?;
    Ok(Lag { p50: quantile(lags.clone(), 50), p99: quantile(lags, 99) })
}

/// Writes a heartbeat; how long after its commit green shows it.
async fn seen_after(blue: &Client, green: &Client, id: i64) -> Result<Duration> {
    let look = green.prepare("select from public.heartbeat where id = $1").await?;
    let write = blue.prepare("insert into public.heartbeat values ($1)").await?;
    blue.execute(&write, &[&id]).await?;
    let committed = Instant::now();
    while green.query_opt(&look, &[&id]).await?.is_none() {
        if committed.elapsed() > PATIENCE {
            bail!("heartbeat {id} is not on green after {} s", PATIENCE.as_secs());
        }
        // The runtime's own timer would round it up to two milliseconds.
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(committed.elapsed())
}

fn traffic(servers: &Servers) -> Result<Child> {
    Command::new(servers.programs.join("pgbench"))
        .args(["-n", "-c", CLIENTS, "-j", "1", "-R", RATE, "-M", "prepared", "-T", "600"])
        .arg(servers.blue.server.url(DATABASE))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run pgbench")
}

/// The smallest value that so many of a hundred are not above.
fn quantile(mut values: Vec<f64>, of_hundred: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * of_hundred).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}
