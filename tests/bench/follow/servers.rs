//! Blue and green for a measurement, with the memory a production server would have.

use crate::support::cluster::{Cluster, fresh_password};
use crate::support::installed;
use crate::support::scratch::Scratch;
use crate::work::Backlog;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use tokio_postgres::Client;

/// The database on both sides; on green a clone of [`TEMPLATE`].
pub const DATABASE: &str = "bench";
/// Green's database as of the slot.
pub const TEMPLATE: &str = "template_bench";

const SETTINGS: [&str; 9] = [
    "shared_buffers = '2GB'",
    "max_wal_size = '8GB'",
    "min_wal_size = '1GB'",
    "checkpoint_timeout = '15min'",
    "maintenance_work_mem = '512MB'",
    "logical_decoding_work_mem = '256MB'",
    "max_slot_wal_keep_size = -1",
    "random_page_cost = 1.1",
    "effective_cache_size = '8GB'",
];

/// Linux counts CPU time for programs in hundredths of a second, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Two servers that nobody else uses.
pub struct Servers {
    pub blue: Cluster,
    pub green: Cluster,
    /// Where pgbench, pg_dump, psql and pg_recvlogical are.
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
        for program in ["pgbench", "pg_dump", "psql", "pg_recvlogical"] {
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

    /// Gives green a fresh clone of its database as of the slot, and blue a fresh copy of the slot.
    pub async fn reset(&self, slot: &str) -> Result<()> {
        let admin = self.green.server.connect("postgres").await?;
        admin.batch_execute(&format!("drop database if exists {DATABASE} with (force)")).await?;
        admin
            .batch_execute(&format!("create database {DATABASE} template {TEMPLATE} strategy file_copy"))
            .await?;
        admin.batch_execute("checkpoint").await?;
        let blue = self.blue().await?;
        blue.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
            &[&slot],
        )
        .await?;
        blue.execute("select pg_copy_logical_replication_slot('base', $1::text::name)", &[&slot]).await?;
        // So that green's caches are warm alike for everyone.
        let green = self.green().await?;
        if green.batch_execute("create extension if not exists pg_prewarm").await.is_ok() {
            let warm = "select pg_prewarm(c.oid) from pg_class c where c.relkind in ('r', 'i') and c.relnamespace = 'public'::regnamespace";
            green.batch_execute(warm).await?;
        }
        Ok(())
    }

    /// Compares green with blue, row by row in digests.
    pub async fn compare(&self, backlog: &Backlog) -> Result<()> {
        let (blue, green) = (self.blue().await?, self.green().await?);
        for table in &backlog.tables {
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

/// CPU seconds a server has used so far, with its sessions that have ended.
pub async fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
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
    Ok(f64::from(u32::try_from(ticks)?) / TICKS_PER_SECOND)
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
