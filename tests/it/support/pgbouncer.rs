//! A PgBouncer in transaction mode with one entry, `app`.

use super::cluster::{Server, connect};
use super::installed;
use super::scratch::{EndBy, Scratch};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// An instance that this process started.
pub struct PgBouncer {
    port: u16,
    password: String,
    config: PathBuf,
    child: Child,
    /// Set when the instance has a directory of its own; dropped after it.
    pub(super) scratch: Option<Scratch>,
}

impl PgBouncer {
    /// Starts an instance whose entry `app` leads to a database of a server, in a scratch directory.
    ///
    /// Every server that it may be pointed at must accept the same password for user `postgres`, or one of `others`.
    pub async fn start_in(scratch: &Scratch, server: &Server, database: &str) -> Result<PgBouncer> {
        let owner = installed::postgres_owner()?;
        let home = scratch.directory(&format!("pgbouncer-{:04x}", rand::random::<u16>()), owner)?;
        let port = installed::free_port()?;
        let config = home.join("pgbouncer.ini");
        std::fs::write(home.join("users"), format!("\"postgres\" \"{}\"\n", server.password))?;
        std::fs::write(&config, ini(&home, port, server, database))?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&config, Some(user), Some(group))?;
        }
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg("--quiet").arg(&config).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        installed::run_as(&mut command, owner);
        let child = command.spawn().context("cannot start PgBouncer; run scripts/install")?;
        scratch.watch(child.id(), EndBy::Terminate)?;
        let mut bouncer = PgBouncer { port, password: server.password.clone(), config, child, scratch: None };
        bouncer.wait_until_ready(&home).await?;
        Ok(bouncer)
    }

    async fn wait_until_ready(&mut self, home: &Path) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let log = || std::fs::read_to_string(home.join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("PgBouncer ended at once ({status}): {}", log());
            }
            if connect(&self.app_url()).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("PgBouncer does not let anyone through after {START_DEADLINE:?}: {}", log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The connection string of applications. Use simple queries: this version has no prepared statements in transaction mode.
    pub fn app_url(&self) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{}/app", self.password, self.port)
    }

    /// The connection string of the admin console.
    pub fn admin_url(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres password={} dbname=pgbouncer", self.port, self.password)
    }

    /// Its configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The text for a plan's `to:`, for a database of a server.
    pub fn target(server: &Server, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database}", server.port)
    }

    /// SIGKILL: every client loses its connection.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill PgBouncer")?;
        self.child.wait().context("cannot wait for PgBouncer")?;
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.config.with_file_name("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the end of PgBouncer's log\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ini(home: &Path, port: u16, server: &Server, database: &str) -> String {
    let home = home.display();
    format!(
        "[databases]\n\
         app = {target}\n\
         \n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {home}/users\n\
         admin_users = postgres\n\
         pool_mode = transaction\n\
         default_pool_size = 20\n\
         max_client_conn = 400\n\
         logfile = {home}/log\n\
         pidfile = {home}/pid\n",
        target = PgBouncer::target(server, database),
    )
}
