//! How to reach a server: libpq's connection strings, with its environment variables, service and password files.
//!
//! The same information serves our SQL connections, the replication client, and children such as pg_dump, so that
//! what works for `psql` works for us, and everything we reach is the same server.

mod environment;
mod text;

use crate::error::{Error, Kind, Result};
use environment::Environment;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A parsed connection string. `Debug` and [`ConnInfo::label`] never show the password.
#[derive(Clone)]
pub struct ConnInfo {
    pub(super) host: String,
    pub(super) hostaddr: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
    pub(super) database: String,
    pub(super) options: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) keepalive: Keepalive,
    pub(super) tls: TlsChoice,
    pub(super) channel_binding: ChannelBinding,
    epoch: Option<i64>,
}

/// TCP keepalives: how a dead peer is noticed on an idle connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keepalive {
    pub on: bool,
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

/// What the operator wants of TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsChoice {
    pub mode: SslMode,
    pub roots: Roots,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// TLS from the first byte (PostgreSQL 17), without asking first.
    pub direct: bool,
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Which authorities vouch for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The operating system's.
    Native,
    /// A PEM file.
    File(PathBuf),
}

/// libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// What libpq calls `connect_timeout`, when none is given: every wait of ours has an end.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Keywords libpq knows and we do not act upon, which change nothing that matters to us.
const IGNORED: [&str; 5] =
    ["application_name", "fallback_application_name", "sslcompression", "sslsni", "gssdelegation"];

/// Keywords we act upon, with the environment variable that gives each when the string does not.
const KEYWORDS: [(&str, &str); 24] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("keepalives", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("keepalives_count", ""),
];

/// Keywords that libpq has and we refuse, because ignoring them would weaken what the operator asked for.
const UNSUPPORTED: [&str; 13] = [
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "require_auth",
    "requirepeer",
    "krbsrvname",
    "gsslib",
    "replication",
    "load_balance_hosts",
    "tcp_user_timeout",
];

type Settings = BTreeMap<String, String>;

impl ConnInfo {
    /// Reads a libpq connection string (URI or keyword form), and fills what it leaves open from the service file,
    /// the PG* variables, the password file and libpq's defaults, in this order.
    ///
    /// # Errors
    /// [`Kind::Plan`] when it is not one: which keyword, and what to do. The message never contains the string.
    pub fn parse(text: &str) -> Result<ConnInfo> {
        ConnInfo::parse_in(text, &Environment::of_process())
    }

    fn parse_in(text: &str, environment: &Environment) -> Result<ConnInfo> {
        let mut settings = text::read(text)?;
        for key in settings.keys() {
            refuse_unknown(key, "the connection string")?;
        }
        environment.fill(&mut settings)?;
        ConnInfo::from_settings(&settings, environment)
    }

    fn from_settings(settings: &Settings, environment: &Environment) -> Result<ConnInfo> {
        refuse_what_we_cannot_do(settings)?;
        let given = |key: &str| settings.get(key).filter(|value| !value.is_empty());
        let port = match given("port") {
            Some(port) => number::<u16>("port", port)?,
            None => 5432,
        };
        let host = given("host").cloned();
        let hostaddr = given("hostaddr")
            .map(|address| {
                address
                    .parse()
                    .map_err(|_| wrong("hostaddr", "is not an IP address", "Put names into `host`."))
            })
            .transpose()?;
        let host = match (host, hostaddr) {
            (Some(host), _) => host,
            (None, Some(address)) => IpAddr::to_string(&address),
            (None, None) => environment.default_host(port),
        };
        let user = match given("user") {
            Some(user) => user.clone(),
            None => environment.user().ok_or_else(|| {
                wrong(
                    "user",
                    "is missing",
                    "Add `user=…`, or `user@` before the host of a URI, or set PGUSER.",
                )
            })?,
        };
        let database = given("dbname").cloned().unwrap_or_else(|| user.clone());
        let password = given("password")
            .cloned()
            .or_else(|| environment.password(settings, &host, port, &database, &user))
            .map(SecretString::from);
        Ok(ConnInfo {
            tls: tls_choice(settings, environment)?,
            channel_binding: one_of(
                "channel_binding",
                given("channel_binding"),
                ChannelBinding::Prefer,
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?,
            connect_timeout: connect_timeout(given("connect_timeout"))?,
            keepalive: keepalive(settings)?,
            options: given("options").cloned(),
            host,
            hostaddr,
            port,
            user,
            password,
            database,
            epoch: None,
        })
    }

    /// The same, for sessions that act under a lease: they carry its epoch in `application_name`, by which a takeover
    /// finds and ends them.
    #[must_use]
    pub fn acting_as(&self, epoch: i64) -> ConnInfo {
        ConnInfo { epoch: Some(epoch), ..self.clone() }
    }

    /// `migrate: purpose`, or `migrate EPOCH: purpose` under a lease.
    pub(super) fn application_name(&self, purpose: &str) -> String {
        match self.epoch {
            Some(epoch) => format!("migrate {epoch}: {purpose}"),
            None => format!("migrate: {purpose}"),
        }
    }

    /// `host:port/database as user`, for messages.
    pub fn label(&self) -> String {
        format!("{}:{}/{} as {}", self.host, self.port, self.database, self.user)
    }

    /// Whether the server is on the machine we run on, as far as its address tells: a Unix socket, or a loopback address.
    pub fn is_on_this_machine(&self) -> bool {
        let address = self.hostaddr.or_else(|| self.host.parse().ok());
        address.map_or_else(
            || self.host == "localhost" || self.socket_directory().is_some(),
            |address| address.is_loopback(),
        )
    }

    /// A name, an address, or the directory of a Unix socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, or the number in the Unix socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The role we log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password we log in with, for those who log in elsewhere in our name (a probe through a pooler).
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same server and role, with another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> ConnInfo {
        ConnInfo { database: database.to_owned(), ..self.clone() }
    }

    /// The same server and database, with another's role and password.
    #[must_use]
    pub fn with_login_of(&self, other: &ConnInfo) -> ConnInfo {
        ConnInfo { user: other.user.clone(), password: other.password.clone(), ..self.clone() }
    }

    /// The same as PG* variables, for children: secrets go through the environment, never through arguments.
    ///
    /// Set them with [`ConnInfo::lend`], which also takes away the variables that would override these.
    pub fn libpq_env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("PGHOST".to_owned(), self.host.clone()),
            ("PGPORT".to_owned(), self.port.to_string()),
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGDATABASE".to_owned(), self.database.clone()),
            ("PGSSLMODE".to_owned(), self.tls.mode.word().to_owned()),
            ("PGCONNECT_TIMEOUT".to_owned(), self.connect_timeout.as_secs().max(2).to_string()),
        ];
        let mut add = |name: &str, value: Option<String>| {
            env.extend(value.map(|value| (name.to_owned(), value)));
        };
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        add("PGHOSTADDR", self.hostaddr.map(|address| address.to_string()));
        add("PGPASSWORD", self.password.as_ref().map(|password| password.expose_secret().to_owned()));
        add("PGOPTIONS", self.options.clone());
        add("PGSSLCERT", self.tls.certificate.as_deref().map(shown));
        add("PGSSLKEY", self.tls.key.as_deref().map(shown));
        match (&self.tls.roots, self.tls.mode) {
            (Roots::File(path), _) => add("PGSSLROOTCERT", Some(shown(path))),
            (Roots::Native, SslMode::VerifyFull) => add("PGSSLROOTCERT", Some("system".to_owned())),
            (Roots::Native, _) => {}
        }
        env
    }

    /// Lends the connection to a child: clears every PG* variable it would inherit (PGSERVICE would win over PGHOST),
    /// and sets ours.
    pub fn lend(&self, child: &mut tokio::process::Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                child.env_remove(name);
            }
        }
        child.envs(self.libpq_env());
    }

    /// The directory of the Unix socket, when the server is reached through one.
    pub(super) fn socket_directory(&self) -> Option<&Path> {
        (self.hostaddr.is_none() && self.host.starts_with(['/', '@'])).then(|| Path::new(&self.host))
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnInfo({})", self.label())
    }
}

impl SslMode {
    const WORDS: [(&'static str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];

    fn word(self) -> &'static str {
        SslMode::WORDS.iter().find(|(_, mode)| *mode == self).map_or("prefer", |(word, _)| word)
    }
}

/// An error about one keyword; its value is never in it.
fn wrong(key: &str, problem: &str, remedy: &str) -> Error {
    Error::new(Kind::Plan, format!("connection setting `{key}` {problem}")).hint(remedy)
}

fn refuse_unknown(key: &str, place: &str) -> Result<()> {
    let known = KEYWORDS.iter().any(|(known, _)| *known == key) || IGNORED.contains(&key);
    if known {
        return Ok(());
    }
    if UNSUPPORTED.contains(&key) {
        return Err(wrong(key, "is not supported by migrate", &format!("Take it out of {place}.")));
    }
    // An unknown word may be a part of a password that was not quoted: it is not repeated.
    let plain = key.len() <= 40 && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let shown = if plain { key } else { "(not shown)" };
    Err(wrong(
        shown,
        &format!("in {place} is unknown"),
        "See the keywords of libpq's connection strings; quote values with spaces.",
    ))
}

fn refuse_what_we_cannot_do(settings: &Settings) -> Result<()> {
    let is = |key: &str, accepted: &[&str]| {
        settings
            .get(key)
            .is_none_or(|value| value.is_empty() || accepted.contains(&value.to_ascii_lowercase().as_str()))
    };
    for key in ["host", "hostaddr", "port"] {
        if settings.get(key).is_some_and(|value| value.contains(',')) {
            return Err(wrong(
                key,
                "names several servers",
                "Name the one primary: a migration is tied to it.",
            ));
        }
    }
    if !is("client_encoding", &["utf8", "utf-8", "auto"]) {
        return Err(wrong("client_encoding", "is not UTF8", "Leave it out: migrate always speaks UTF-8."));
    }
    if !is("gssencmode", &["disable", "prefer"]) {
        return Err(wrong("gssencmode", "asks for GSSAPI", "migrate encrypts with TLS: use `sslmode`."));
    }
    if !is("target_session_attrs", &["any", "read-write", "primary"]) {
        return Err(wrong(
            "target_session_attrs",
            "asks for a standby",
            "Leave it out and name the primary.",
        ));
    }
    Ok(())
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T> {
    value
        .trim()
        .parse()
        .map_err(|_| wrong(key, "is not a number in its range", "Write a plain whole number."))
}

fn one_of<T: Copy>(key: &str, given: Option<&String>, default: T, words: &[(&str, T)]) -> Result<T> {
    let Some(given) = given else { return Ok(default) };
    words.iter().find(|(word, _)| word == given).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        wrong(key, "has a value that does not exist", &format!("Use one of: {}.", words.join(", ")))
    })
}

fn connect_timeout(given: Option<&String>) -> Result<Duration> {
    match given.map(|value| number::<i64>("connect_timeout", value)).transpose()? {
        // libpq waits for ever at 0; we do not.
        None | Some(i64::MIN..=0) => Ok(CONNECT_TIMEOUT),
        // libpq, too, takes 1 for 2.
        Some(seconds) => Ok(Duration::from_secs(seconds.unsigned_abs().clamp(2, 600))),
    }
}

fn keepalive(settings: &Settings) -> Result<Keepalive> {
    let seconds = |key: &str, default: u64| match settings.get(key) {
        Some(value) => {
            number::<u64>(key, value).map(|n| Duration::from_secs(if n == 0 { default } else { n }))
        }
        None => Ok(Duration::from_secs(default)),
    };
    Ok(Keepalive {
        on: settings.get("keepalives").is_none_or(|value| value != "0"),
        // Shorter than the system's two hours: a follower must notice within a minute that its server is gone.
        idle: seconds("keepalives_idle", 15)?,
        interval: seconds("keepalives_interval", 5)?,
        count: match settings.get("keepalives_count") {
            Some(value) => number::<u32>("keepalives_count", value)?.max(1),
            None => 4,
        },
    })
}

fn tls_choice(settings: &Settings, environment: &Environment) -> Result<TlsChoice> {
    let given = |key: &str| settings.get(key).filter(|value| !value.is_empty());
    let mode = given("sslmode");
    let asked = one_of("sslmode", mode, SslMode::Prefer, &SslMode::WORDS)?;
    let direct =
        one_of("sslnegotiation", given("sslnegotiation"), false, &[("postgres", false), ("direct", true)])?;
    if direct && asked < SslMode::Require {
        return Err(wrong("sslnegotiation", "needs TLS", "Use sslmode=require or stronger with it."));
    }
    let (roots, found) = match given("sslrootcert").map(String::as_str) {
        Some("system") if mode.is_some() && asked != SslMode::VerifyFull => {
            return Err(wrong("sslrootcert", "is `system`, which needs sslmode=verify-full", "Set both."));
        }
        Some("system") => (Roots::Native, true),
        Some(path) => (Roots::File(path.into()), true),
        None => match environment.home_file("root.crt") {
            Some(path) => (Roots::File(path), true),
            None => (Roots::Native, false),
        },
    };
    let mode = match (asked, &roots) {
        // As libpq: naming authorities and asking for TLS means to have the server vouched for.
        (SslMode::Require, Roots::File(_)) if found => SslMode::VerifyCa,
        (_, Roots::Native) if found => SslMode::VerifyFull,
        (mode, _) => mode,
    };
    let certificate = given("sslcert").map(PathBuf::from).or_else(|| environment.home_file("postgresql.crt"));
    let key = given("sslkey").map(PathBuf::from).or_else(|| environment.home_file("postgresql.key"));
    if let (Some(_), None) = (&certificate, &key) {
        return Err(wrong(
            "sslkey",
            "is missing though `sslcert` is given",
            "Name the certificate's key file.",
        ));
    }
    Ok(TlsChoice { mode, roots, certificate, key, direct })
}

#[cfg(test)]
mod tests;
