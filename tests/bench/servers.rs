//! Blue and green for a measurement, with the memory a production server would have.

use crate::report::Run;
use crate::support::cluster::{Cluster, fresh_password};
use crate::support::installed;
use crate::support::scratch::Scratch;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Instant;
use tokio_postgres::Client;

/// The database on both sides.
pub const DATABASE: &str = "bench";

/// How every database is made. The locale decides how fast text is sorted; this one is where indexes cost least, for everybody.
pub const EMPTY: &str = "template template0 locale 'C'";

const SETTINGS: [&str; 10] = [
    "shared_buffers = '2GB'",
    "max_wal_size = '8GB'",
    "min_wal_size = '1GB'",
    "checkpoint_timeout = '15min'",
    "maintenance_work_mem = '1GB'",
    "max_worker_processes = 16",
    "logical_decoding_work_mem = '256MB'",
    "max_slot_wal_keep_size = '64GB'",
    "random_page_cost = 1.1",
    "effective_cache_size = '8GB'",
];

/// Linux counts CPU time for programs in hundredths of a second, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Two servers that nobody else uses.
pub struct Servers {
    pub blue: Cluster,
    pub green: Cluster,
    /// Where blue's client programs are.
    pub programs: PathBuf,
}

impl Servers {
    pub async fn start(scratch: &Scratch, green: u32) -> Result<Servers> {
        let password = fresh_password();
        let (mut blue, mut green) = tokio::try_join!(
            Cluster::start(scratch, 15, &password),
            Cluster::start(scratch, green, &password)
        )?;
        for cluster in [&mut blue, &mut green] {
            let admin = cluster.server.connect("postgres").await?;
            for setting in SETTINGS {
                admin.batch_execute(&format!("alter system set {setting}")).await?;
            }
            admin.batch_execute("checkpoint").await?;
            cluster.kill()?;
            cluster.restart(scratch).await?;
        }
        let programs = installed::postgres_bin(15)?;
        for program in ["pgbench", "pg_dump", "pg_restore", "psql", "pg_recvlogical"] {
            if !programs.join(program).is_file() {
                bail!("{program} is not in {}", programs.display());
            }
        }
        Ok(Servers { blue, green, programs })
    }

    pub async fn blue(&self) -> Result<Client> {
        self.blue.server.connect(DATABASE).await
    }

    pub async fn green(&self) -> Result<Client> {
        self.green.server.connect(DATABASE).await
    }

    /// Runs one of the client programs to its end.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = tokio::process::Command::new(self.programs.join(program))
            .args(args)
            .env("PGPASSWORD", &self.blue.server.password)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {program}"))?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Compares green with blue, row by row in digests.
    pub async fn compare(&self, tables: &[&str]) -> Result<()> {
        let (blue, green) = (self.blue().await?, self.green().await?);
        for table in tables {
            let sql = format!(
                "select count(*), sum(hashtextextended(t::text, 0)::numeric)::text from public.{table} t"
            );
            let (left, right) = tokio::try_join!(blue.query_one(&sql, &[]), green.query_one(&sql, &[]))?;
            let digest = |row: &tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, Option<String>>(1));
            if digest(&left) != digest(&right) {
                bail!("{table} differs on green: {:?} and {:?}", digest(&left), digest(&right));
            }
        }
        Ok(())
    }
}

/// Clocks before a run: of blue's and green's CPU, of our ended children's CPU, and of the wall.
pub struct Clocks {
    blue_cpu: f64,
    green_cpu: f64,
    client_cpu: f64,
    pub began: Instant,
}

impl Clocks {
    pub async fn read(servers: &Servers) -> Result<Clocks> {
        let (blue_cpu, green_cpu) = (cpu_seconds(&servers.blue).await?, cpu_seconds(&servers.green).await?);
        let client_cpu = ended_children_seconds().context("this process has no entry in /proc")?;
        Ok(Clocks { blue_cpu, green_cpu, client_cpu, began: Instant::now() })
    }

    /// A run that ended so many seconds after these clocks were read. Programs that have not ended are not in its
    /// client's CPU.
    pub async fn run(&self, servers: &Servers, seconds: f64) -> Result<Run> {
        let now = Clocks::read(servers).await?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Run {
            seconds,
            blue_cpu: now.blue_cpu - self.blue_cpu,
            green_cpu: now.green_cpu - self.green_cpu,
            client_cpu: now.client_cpu - self.client_cpu,
            load: load.split(' ').next().unwrap_or_default().parse().unwrap_or_default(),
            note: String::new(),
        })
    }
}

/// CPU seconds of a program of ours that runs, with those of its own that have ended.
pub fn running_seconds(pid: u32) -> Option<f64> {
    let stat = stat(i32::try_from(pid).ok()?)?;
    seconds(stat.own_ticks + stat.ended_ticks)
}

fn ended_children_seconds() -> Option<f64> {
    seconds(stat(i32::try_from(std::process::id()).ok()?)?.ended_ticks)
}

fn seconds(ticks: u64) -> Option<f64> {
    Some(f64::from(u32::try_from(ticks).ok()?) / TICKS_PER_SECOND)
}

/// CPU seconds a server has used so far, with its sessions that have ended.
async fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    let client = cluster.server.connect("postgres").await?;
    let session: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let server = stat(session).context("the session has no entry in /proc")?.parent;
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(stat) = stat(pid) else { continue };
        if pid == server {
            ticks += stat.own_ticks + stat.ended_ticks;
        } else if stat.parent == server {
            ticks += stat.own_ticks;
        }
    }
    seconds(ticks).context("more CPU time than can be counted")
}

struct Stat {
    parent: i32,
    own_ticks: u64,
    /// Of children that were waited for.
    ended_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows its last one is numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: number(11)? + number(12)?,
        ended_ticks: number(13)? + number(14)?,
    })
}
