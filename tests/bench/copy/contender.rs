//! Those who copy: us, and the ways people copy a database today.

use super::work::Work;
use crate::report::Run;
use crate::servers::{Clocks, DATABASE, EMPTY, Servers, running_seconds};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Nobody may take longer.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often green is asked whether it has everything.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const PLAN: &str = "version: 1
name: bench
kind: blue_green
blue: { url: \"${BLUE_URL}\" }
green: { url: \"${GREEN_URL}\" }
schema: { from: blue }
replicate: { tables: { include: [\"public.*\"] } }
";

/// A way to copy.
pub enum Contender {
    /// `migrate replicate`, the program itself.
    Ours(PathBuf),
    /// A subscription into a schema with everything in place.
    Native,
    /// A subscription into bare tables; indexes and constraints by pg_restore when it has caught up.
    NativeDeferred,
    /// pg_dump to a directory, uncompressed, and pg_restore, two jobs each.
    Dump,
    /// `pgcopydb clone`, two table jobs and two index jobs.
    Pgcopydb(Pgcopydb),
    /// Reads every row from blue, and writes nothing.
    Limit,
}

/// The pgcopydb that is installed.
pub struct Pgcopydb {
    program: PathBuf,
    /// It would otherwise vacuum and analyze, which nobody else does before the clock stops.
    skips_vacuum: bool,
}

impl Contender {
    /// Everybody who is installed. Says which pgcopydb it is, or that there is none.
    pub async fn all(servers: &Servers) -> Result<Vec<Contender>> {
        let mut all = vec![
            Contender::Ours(our_binary()?),
            Contender::Native,
            Contender::NativeDeferred,
            Contender::Dump,
        ];
        match Pgcopydb::find(servers).await {
            Some(found) => all.push(Contender::Pgcopydb(found)),
            None => {
                eprintln!("pgcopydb is missing, so it is left out; MIGRATE_PGCOPYDB may name the program")
            }
        }
        all.push(Contender::Limit);
        Ok(all)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Contender::Ours(_) => "ours",
            Contender::Native => "native",
            Contender::NativeDeferred => "native-deferred",
            Contender::Dump => "dump",
            Contender::Pgcopydb(_) => "pgcopydb",
            Contender::Limit => "limit",
        }
    }

    /// Whether green is filled in the end.
    pub fn copies(&self) -> bool {
        !matches!(self, Contender::Limit)
    }

    /// Copies into an empty green, and leaves blue as it was.
    pub async fn copy(&self, servers: &Servers, directory: &Path, work: &Work) -> Result<Run> {
        let outcome = tokio::time::timeout(PATIENCE, async {
            match self {
                Contender::Ours(binary) => ours(servers, directory, binary).await,
                Contender::Native => native(servers, directory, Objects::BeforeRows).await,
                Contender::NativeDeferred => native(servers, directory, Objects::AfterRows).await,
                Contender::Dump => dump(servers, directory).await,
                Contender::Pgcopydb(pgcopydb) => pgcopydb.copy(servers, directory).await,
                Contender::Limit => limit(servers, work).await,
            }
        });
        outcome.await.with_context(|| format!("{} took too long", self.name()))?
    }
}

/// The `migrate` that was built with this program, or `MIGRATE_BENCH_BINARY`.
fn our_binary() -> Result<PathBuf> {
    let binary = match std::env::var_os("MIGRATE_BENCH_BINARY") {
        Some(path) => PathBuf::from(path),
        None => {
            let here = std::env::current_exe()?;
            here.ancestors().nth(2).context("this program has no directory")?.join("migrate")
        }
    };
    std::path::absolute(&binary)
        .ok()
        .filter(|binary| binary.is_file())
        .with_context(|| format!("there is no {}", binary.display()))
}

async fn ours(servers: &Servers, directory: &Path, binary: &Path) -> Result<Run> {
    std::fs::write(directory.join("plan.yaml"), PLAN)?;
    let log = std::fs::File::create(directory.join("log"))?;
    let green = servers.green().await?;
    let clocks = Clocks::read(servers).await?;
    let mut child = Command::new(binary)
        .args(["replicate", "plan.yaml", "--until-caught-up"])
        .current_dir(directory)
        .env("BLUE_URL", servers.blue.server.url(DATABASE))
        .env("GREEN_URL", servers.green.server.url(DATABASE))
        .env("CI", "true")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let pid = child.id().context("it has ended already")?;
    // The last of what others make too; statistics, which come after, are nobody else's.
    let proved = "select from migrate.journal where step = 'replicate/prove-keys' and event = 'applied'";
    // Until its journal is there, the question is an error.
    while !green.query_opt(proved, &[]).await.is_ok_and(|row| row.is_some()) {
        if let Some(status) = child.try_wait()? {
            bail!("migrate ended ({status}): {}", std::fs::read_to_string(directory.join("log"))?);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = clocks.began.elapsed().as_secs_f64();
    let mut run = clocks.run(servers, seconds).await?;
    run.client_cpu += running_seconds(pid).context("migrate has ended")?;
    let steps =
        "select coalesce(string_agg(format('%s %s s', step, round(seconds, 2)), ', ' order by seq), '')
          from (select seq, step, event, extract(epoch from at - lag(at) over (order by seq)) as seconds
                  from migrate.journal) as entry
         where event = 'applied' and seconds >= 0.05";
    run.note = green.query_one(steps, &[]).await?.get(0);
    let status = child.wait().await?;
    if !status.success() {
        bail!("migrate failed ({status}): {}", std::fs::read_to_string(directory.join("log"))?);
    }
    drop_ours(servers).await?;
    Ok(run)
}

/// Takes away what a copy that is to be followed leaves on blue.
async fn drop_ours(servers: &Servers) -> Result<()> {
    let blue = servers.blue().await?;
    blue.batch_execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots").await?;
    for row in blue.query("select format('drop publication %I', pubname) from pg_publication", &[]).await? {
        blue.batch_execute(row.get(0)).await?;
    }
    blue.batch_execute("drop schema migrate cascade").await?;
    Ok(())
}

/// When indexes and constraints are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Objects {
    BeforeRows,
    AfterRows,
}

async fn native(servers: &Servers, directory: &Path, objects: Objects) -> Result<Run> {
    let (blue, green) = (servers.blue().await?, servers.green().await?);
    let clocks = Clocks::read(servers).await?;
    let schema = text(&directory.join("schema"))?;
    servers.run("pg_dump", &["-s", "-Fc", "-f", &schema, &servers.blue.server.url(DATABASE)]).await?;
    restore(servers, &schema, "pre-data").await?;
    if objects == Objects::BeforeRows {
        restore(servers, &schema, "post-data").await?;
    }
    blue.batch_execute("create publication bench for all tables").await?;
    green
        .batch_execute(&format!(
            "create subscription bench connection 'host=127.0.0.1 port={} user=postgres password={} dbname={DATABASE}' publication bench",
            servers.blue.server.port, servers.blue.server.password
        ))
        .await?;
    let left = "select count(*) from pg_subscription_rel where srsubstate <> 'r'";
    while green.query_one(left, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if objects == Objects::AfterRows {
        restore(servers, &schema, "post-data").await?;
    }
    let run = clocks.run(servers, clocks.began.elapsed().as_secs_f64()).await?;
    green.batch_execute("drop subscription bench").await?;
    blue.batch_execute("drop publication bench").await?;
    Ok(run)
}

async fn restore(servers: &Servers, schema: &str, section: &str) -> Result<()> {
    let section = format!("--section={section}");
    let green = servers.green.server.url(DATABASE);
    servers.run("pg_restore", &[&section, "-j", "2", "-d", &green, schema]).await?;
    Ok(())
}

async fn dump(servers: &Servers, directory: &Path) -> Result<Run> {
    let clocks = Clocks::read(servers).await?;
    let files = text(&directory.join("dump"))?;
    let (blue, green) = (servers.blue.server.url(DATABASE), servers.green.server.url(DATABASE));
    servers.run("pg_dump", &["-Fd", "-j", "2", "-Z", "0", "-f", &files, &blue]).await?;
    servers.run("pg_restore", &["-j", "2", "-d", &green, &files]).await?;
    clocks.run(servers, clocks.began.elapsed().as_secs_f64()).await
}

async fn limit(servers: &Servers, work: &Work) -> Result<Run> {
    let clocks = Clocks::read(servers).await?;
    let blue = servers.blue.server.url(DATABASE);
    for table in work.tables() {
        let sql = format!("copy public.{table} to stdout (format binary)");
        servers.run("psql", &["-X", "-q", "-o", "/dev/null", "-c", &sql, &blue]).await?;
    }
    clocks.run(servers, clocks.began.elapsed().as_secs_f64()).await
}

impl Pgcopydb {
    async fn find(servers: &Servers) -> Option<Pgcopydb> {
        let program = std::env::var_os("MIGRATE_PGCOPYDB").map_or_else(|| "pgcopydb".into(), PathBuf::from);
        let version = said(servers, &program, &["--version"]).await?;
        eprintln!("pgcopydb: {}", version.lines().find(|line| line.contains("version")).unwrap_or(&version));
        let help = said(servers, &program, &["clone", "--help"]).await.unwrap_or_default();
        Some(Pgcopydb { program, skips_vacuum: help.contains("--skip-vacuum") })
    }

    async fn copy(&self, servers: &Servers, directory: &Path) -> Result<Run> {
        let work = text(&directory.join("pgcopydb"))?;
        let clocks = Clocks::read(servers).await?;
        let mut command = command(servers, &self.program);
        command
            .args(["clone", "--dir", &work, "--table-jobs", "2", "--index-jobs", "2"])
            .args(["--no-owner", "--no-acl", "--no-comments"])
            .args(self.skips_vacuum.then_some("--skip-vacuum"))
            .env("PGCOPYDB_SOURCE_PGURI", servers.blue.server.url(DATABASE))
            .env("PGCOPYDB_TARGET_PGURI", servers.green.server.url(DATABASE));
        let output = command.output().await.context("cannot run pgcopydb")?;
        if !output.status.success() {
            bail!("pgcopydb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        clocks.run(servers, clocks.began.elapsed().as_secs_f64()).await
    }
}

/// What a program says of itself, on whichever stream; none when it is not there.
async fn said(servers: &Servers, program: &Path, args: &[&str]) -> Option<String> {
    let output = command(servers, program).args(args).output().await.ok()?;
    let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A command that finds blue's client programs first, as pgcopydb needs them.
fn command(servers: &Servers, program: &Path) -> Command {
    let mut places = vec![servers.programs.clone()];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(program);
    command
        .env("PATH", std::env::join_paths(places).unwrap_or_default())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is text")?.to_owned())
}

/// Makes green's database anew, and lets neither side begin with somebody else's pages to write.
pub async fn empty_green(servers: &Servers) -> Result<()> {
    let admin = servers.green.server.connect("postgres").await?;
    admin.batch_execute(&format!("drop database if exists {DATABASE} with (force)")).await?;
    admin.batch_execute(&format!("create database {DATABASE} {EMPTY}")).await?;
    admin.batch_execute("checkpoint").await?;
    servers.blue.server.connect("postgres").await?.batch_execute("checkpoint").await?;
    Ok(())
}

/// Demands that green has blue's valid indexes and constraints.
pub async fn compare_objects(servers: &Servers, contender: &str) -> Result<()> {
    let sql = "
        select coalesce(string_agg(line, E'\\n' order by line), '') from (
            select pg_get_indexdef(x.indexrelid) as line
              from pg_index x join pg_class c on c.oid = x.indexrelid
             where c.relnamespace = 'public'::regnamespace and x.indisvalid
            union all
            select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
              from pg_constraint
             where connamespace = 'public'::regnamespace and convalidated and contype <> 'n') as objects";
    let (blue, green) = (servers.blue().await?, servers.green().await?);
    let (blue, green) = tokio::try_join!(blue.query_one(sql, &[]), green.query_one(sql, &[]))?;
    let (blue, green): (&str, &str) = (blue.get(0), green.get(0));
    if blue != green {
        let missing: Vec<&str> = blue.lines().filter(|line| !green.lines().any(|it| it == *line)).collect();
        let more: Vec<&str> = green.lines().filter(|line| !blue.lines().any(|it| it == *line)).collect();
        bail!("after {contender}, green lacks {missing:#?} and has {more:#?}");
    }
    Ok(())
}
