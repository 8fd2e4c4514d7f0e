//! PgBouncer's admin console, its answers as typed rows. Columns are found by name, since versions add some.

use super::link::Link;
use crate::{
    error::{Error, Kind, Result},
    pg::{conninfo::ConnInfo, name::Ident},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// A session on the admin console.
pub struct Console {
    link: Link,
}

/// PgBouncer's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// 18 for 1.18.
    pub minor: u32,
    /// 0 for 1.18.0.
    pub patch: u32,
}

impl Version {
    /// Reads `PgBouncer 1.18.0`, with or without more words.
    pub fn parse(text: &str) -> Option<Version> {
        let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut parts = number.split('.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        });
        Some(Version {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// When a server connection goes back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// When the client disconnects: PAUSE would wait for that.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl PoolMode {
    /// As `SHOW CONFIG` and `SHOW DATABASES` write it.
    pub fn parse(text: &str) -> Option<PoolMode> {
        match text {
            "session" => Some(PoolMode::Session),
            "transaction" => Some(PoolMode::Transaction),
            "statement" => Some(PoolMode::Statement),
            _ => None,
        }
    }
}

/// A row of `SHOW DATABASES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRow {
    /// The entry.
    pub name: String,
    /// Empty for a Unix socket.
    pub host: String,
    /// Port.
    pub port: String,
    /// The database on the server.
    pub database: String,
    /// The entry's own mode, when it has one.
    pub pool_mode: Option<PoolMode>,
    /// PAUSE was given. It says nothing about transactions that still run.
    pub paused: bool,
    /// DISABLE was given.
    pub disabled: bool,
}

/// A row of `SHOW POOLS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// The entry.
    pub database: String,
    /// The user.
    pub user: String,
    /// Clients linked to a server, or idle between queries.
    pub clients_active: u64,
    /// Clients that wait for a server.
    pub clients_waiting: u64,
    /// Server links in use by a client.
    pub servers_active: u64,
    /// Server links that wait for a client.
    pub servers_idle: u64,
    /// Server links that log in now.
    pub servers_login: u64,
    /// How long the oldest waiting client waits, in seconds.
    pub max_wait_s: u64,
}

/// A row of `SHOW SERVERS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// The entry.
    pub database: String,
    /// The user.
    pub user: String,
    /// `active`, `idle`, `used`, `tested`, `login`, …
    pub state: String,
    /// The address it is connected to.
    pub addr: String,
    /// The port it is connected to.
    pub port: String,
    /// The backend's process on the server; 0 before it is known.
    pub remote_pid: i64,
    /// What the linked client calls itself.
    pub application: String,
    /// Will be closed when its client is done.
    pub close_needed: bool,
}

impl Console {
    /// Connects to the console, which is the database `pgbouncer` whatever `admin` says.
    ///
    /// # Errors
    /// [`Kind::Connect`] when refused, [`Kind::Deadline`].
    pub async fn connect(admin: &ConnInfo, until: Instant) -> Result<Console> {
        Ok(Console { link: Link::open(&admin.with_database("pgbouncer"), until).await? })
    }

    async fn rows<T>(
        &self,
        show: &str,
        until: Instant,
        read: impl Fn(&Row<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let messages = self.link.ask(show, until).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            read(&Row(row)).ok_or_else(|| {
                Error::new(Kind::Server, format!("PgBouncer's `{show}` has other columns than we know"))
                    .hint("PgBouncer 1.18 to 1.25 are known to work.")
            })
        })
        .collect()
    }

    /// `SHOW VERSION`.
    ///
    /// # Errors
    /// [`Kind::Server`] when it is not PgBouncer's console, else as the connection fails.
    pub async fn version(&self, until: Instant) -> Result<Version> {
        let versions = self.rows("SHOW VERSION", until, |row| Version::parse(row.text("version")?)).await?;
        versions
            .into_iter()
            .next()
            .ok_or_else(|| Error::new(Kind::Server, "PgBouncer does not say its version"))
    }

    /// `SHOW DATABASES`.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn databases(&self, until: Instant) -> Result<Vec<DatabaseRow>> {
        let read = |row: &Row<'_>| {
            Some(DatabaseRow {
                name: row.text("name")?.to_owned(),
                host: row.text("host")?.to_owned(),
                port: row.text("port")?.to_owned(),
                database: row.text("database")?.to_owned(),
                pool_mode: PoolMode::parse(row.text("pool_mode")?),
                paused: row.text("paused")? != "0",
                disabled: row.text("disabled")? != "0",
            })
        };
        self.rows("SHOW DATABASES", until, read).await
    }

    /// `SHOW POOLS`.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn pools(&self, until: Instant) -> Result<Vec<PoolRow>> {
        let read = |row: &Row<'_>| {
            Some(PoolRow {
                database: row.text("database")?.to_owned(),
                user: row.text("user")?.to_owned(),
                clients_active: row.number("cl_active")?,
                clients_waiting: row.number("cl_waiting")?,
                servers_active: row.number("sv_active")?,
                servers_idle: row.number("sv_idle")?,
                servers_login: row.number("sv_login")?,
                max_wait_s: row.number("maxwait")?,
            })
        };
        self.rows("SHOW POOLS", until, read).await
    }

    /// `SHOW SERVERS`.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn servers(&self, until: Instant) -> Result<Vec<ServerRow>> {
        let read = |row: &Row<'_>| {
            Some(ServerRow {
                database: row.text("database")?.to_owned(),
                user: row.text("user")?.to_owned(),
                state: row.text("state")?.to_owned(),
                addr: row.text("addr")?.to_owned(),
                port: row.text("port")?.to_owned(),
                remote_pid: row.number("remote_pid").unwrap_or(0),
                application: row.text("application_name").unwrap_or_default().to_owned(),
                close_needed: row.text("close_needed")? != "0",
            })
        };
        self.rows("SHOW SERVERS", until, read).await
    }

    /// `SHOW CONFIG`: setting to value.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn config(&self, until: Instant) -> Result<BTreeMap<String, String>> {
        let read = |row: &Row<'_>| Some((row.text("key")?.to_owned(), row.text("value")?.to_owned()));
        Ok(self.rows("SHOW CONFIG", until, read).await?.into_iter().collect())
    }

    /// `PAUSE`, which answers when no transaction of the entry runs any more; it may be given again.
    ///
    /// Two traps, both measured on 1.18: a PAUSE that was sent outlives this session, even unanswered; and once anybody
    /// gave WAIT_CLOSE for the entry, PAUSE answers at once though transactions run. So look at [`Console::servers`] after
    /// it, and never give WAIT_CLOSE.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn pause(&self, entry: &str, until: Instant) -> Result<()> {
        self.link.ask(&format!("PAUSE {}", Ident::new(entry)), until).await.map(drop)
    }

    /// `RESUME`; fine when nothing is paused.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn resume(&self, entry: &str, until: Instant) -> Result<()> {
        match self.link.ask(&format!("RESUME {}", Ident::new(entry)), until).await {
            Err(error) if error.chain().iter().any(|line| line.contains("is not paused")) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Whether PgBouncer logs in to a server again without waiting after a failure.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn logs_in_at_once(&self, until: Instant) -> Result<bool> {
        Ok(self.config(until).await?.get("server_login_retry").is_some_and(|seconds| seconds == "0"))
    }

    /// Lets PgBouncer log in to servers again without waiting after a failure, until the next RELOAD.
    ///
    /// PAUSE breaks off logins in flight and takes that for a failure of the server; after RESUME clients would then wait
    /// for `server_login_retry` (15 s) or be refused (measured on 1.18, and in the source up to 1.25).
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn log_in_at_once(&self, until: Instant) -> Result<()> {
        self.link.ask("SET server_login_retry = 0", until).await.map(drop)
    }

    /// `RELOAD`: reads the configuration file again, and forgets what SET changed. Paused entries stay paused.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn reload(&self, until: Instant) -> Result<()> {
        self.link.ask("RELOAD", until).await.map(drop)
    }
}

struct Row<'a>(&'a SimpleQueryRow);

impl Row<'_> {
    /// A column by name; null is empty.
    fn text(&self, column: &str) -> Option<&str> {
        let index = self.0.columns().iter().position(|known| known.name() == column)?;
        Some(self.0.try_get(index).ok()?.unwrap_or_default())
    }

    fn number<N: std::str::FromStr>(&self, column: &str) -> Option<N> {
        self.text(column)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text| Version::parse(text).unwrap();
        assert_eq!(version("PgBouncer 1.18.0").to_string(), "1.18.0");
        assert_eq!(version("PgBouncer 1.24.1 (Debian 1.24.1-1)"), Version { major: 1, minor: 24, patch: 1 });
        assert!(version("PgBouncer 1.9.0") < version("PgBouncer 1.18.0"));
        assert_eq!(version("PgBouncer 1.26dev"), Version { major: 1, minor: 26, patch: 0 });
        assert_eq!(Version::parse("PgBouncer"), None);
    }
}
