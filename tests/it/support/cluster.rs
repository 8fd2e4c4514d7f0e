//! A PostgreSQL server of a given major, as production would set it up for logical decoding, but small.

use super::installed::{self, Owner};
use super::scratch::{EndBy, Scratch};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// How long a server may take to answer after it was started.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Tries with another port, since somebody may take ours between choosing and listening.
const START_TRIES: u32 = 3;

/// Where a running server is and how to get in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// Its major version: 15.
    pub major: u32,
    /// It listens on this port of 127.0.0.1.
    pub port: u16,
    /// The password of the superuser `postgres`.
    pub password: String,
}

impl Server {
    /// The superuser's connection string for a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Opens a connection as superuser.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        connect(&self.url(database)).await
    }
}

/// Opens a connection of the test's own, without anything the program under test would set.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to Postgres")?;
    tokio::spawn(connection);
    Ok(client)
}

/// A password that no other run has.
pub fn fresh_password() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A server that this process started.
pub struct Cluster {
    /// Where it is.
    pub server: Server,
    data: PathBuf,
    bin: PathBuf,
    owner: Owner,
    child: std::process::Child,
}

impl Cluster {
    /// Makes a cluster in the scratch directory and starts it. About two seconds. Servers behind one PgBouncer
    /// must share a password.
    pub async fn start(scratch: &Scratch, major: u32, password: &str) -> Result<Cluster> {
        let bin = installed::postgres_bin(major)?;
        let owner = installed::postgres_owner()?;
        let home = scratch.directory(&format!("pg{major}-{:04x}", rand::random::<u16>()), owner)?;
        let data = home.join("data");
        initdb(scratch, &bin, owner, &home, password).await.with_context(|| format!("PostgreSQL {major}"))?;

        let mut failure = None;
        for _ in 0..START_TRIES {
            let port = installed::free_port()?;
            std::fs::write(data.join("postgresql.auto.conf"), settings(port))
                .context("cannot write the server's settings")?;
            let server = Server { major, port, password: password.to_owned() };
            match spawn(scratch, &bin, owner, &data, &server).await {
                Ok(child) => return Ok(Cluster { server, data, bin, owner, child }),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => bail!("PostgreSQL {major} was never started"),
        }
    }

    /// SIGKILL to the postmaster: what a crash of the server looks like.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Starts it again on the same port, after [`Cluster::kill`].
    pub async fn restart(&mut self, scratch: &Scratch) -> Result<()> {
        // The kernel keeps the dead postmaster's shared memory until its last child is gone.
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match spawn(scratch, &self.bin, self.owner, &self.data, &self.server).await {
                Ok(child) => {
                    self.child = child;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

async fn initdb(scratch: &Scratch, bin: &Path, owner: Owner, home: &Path, password: &str) -> Result<()> {
    let password_file = home.join("password");
    std::fs::write(&password_file, password).context("cannot write the password file")?;
    let mut command = Command::new(bin.join("initdb"));
    command
        .arg("-D")
        .arg(home.join("data"))
        .args(["-U", "postgres", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg("--pwfile")
        .arg(&password_file)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    installed::run_as(&mut command, owner);
    let child = tokio::process::Command::from(command).spawn().context("cannot run initdb")?;
    if let Some(pid) = child.id() {
        scratch.watch(pid, EndBy::Kill)?;
    }
    let output = child.wait_with_output().await.context("cannot wait for initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn settings(port: u16) -> String {
    format!(
        "port = {port}\n\
         listen_addresses = '127.0.0.1'\n\
         unix_socket_directories = ''\n\
         wal_level = logical\n\
         max_wal_senders = 20\n\
         max_replication_slots = 20\n\
         max_connections = 200\n\
         max_prepared_transactions = 10\n\
         max_slot_wal_keep_size = '8GB'\n\
         shared_buffers = '128MB'\n\
         max_wal_size = '2GB'\n\
         timezone = 'UTC'\n\
         log_line_prefix = '%m [%p] %q%a@%d '\n\
         log_min_duration_statement = '2s'\n"
    )
}

async fn spawn(
    scratch: &Scratch,
    bin: &Path,
    owner: Owner,
    data: &Path,
    server: &Server,
) -> Result<std::process::Child> {
    let log_path = data.with_file_name("log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("cannot open {}", log_path.display()))?;
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(data).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    installed::run_as(&mut command, owner);
    let mut child = command.spawn().with_context(|| format!("cannot start PostgreSQL {}", server.major))?;
    scratch.watch(child.id(), EndBy::Quit)?;

    let deadline = Instant::now() + START_DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            bail!("PostgreSQL {} ended at once ({status}): {log}", server.major);
        }
        if server.connect("postgres").await.is_ok() {
            return Ok(child);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            bail!("PostgreSQL {} does not answer after {START_DEADLINE:?}", server.major);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
