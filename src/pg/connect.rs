//! Connections of our own and pools of them, every one with the same pinned settings.

use super::conninfo::{self, ConnInfo};
use super::transport::{self, Attempt, Transport};
use crate::error::{Doing, Error, Kind, Result};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use std::time::Duration;
use tokio::io::Empty;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, Config, Connection};

/// What every session of ours sets first, so that text means the same on both sides and no role default cuts us short.
/// No JIT: the planner thinks catalog queries dear, and compiling one took 4.1 s where running it takes 0.04 s.
pub const PINNED: &str = "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set extra_float_digits = 3; \
    set bytea_output = 'hex'; set timezone = 'UTC'; set lc_monetary = 'C'; set search_path = ''; \
    set client_encoding = 'UTF8'; set statement_timeout = 0; set lock_timeout = 0; \
    set idle_in_transaction_session_timeout = 0; set row_security = off; set client_min_messages = warning; \
    set jit = off";

/// [`PINNED`] in the form of the startup parameter `options`: what RESET ALL goes back to, and what a replication
/// connection, which may set nothing, begins with.
pub(super) const PINNED_OPTIONS: &str = "-c datestyle=ISO,\\ YMD -c intervalstyle=postgres -c extra_float_digits=3 \
    -c bytea_output=hex -c timezone=UTC -c lc_monetary=C -c search_path= -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c row_security=off -c client_min_messages=warning \
    -c jit=off";

/// How long anybody waits for a pool to give a connection.
const POOL_WAIT: Duration = Duration::from_secs(30);

/// Opens a connection of its own. `purpose` ends up in `application_name` as `migrate: purpose`.
///
/// The session ends with the client.
///
/// # Errors
/// [`Kind::Connect`] when the server cannot be reached within `connect_timeout` (10 s unless given) or refuses us.
pub async fn connect(info: &ConnInfo, purpose: &str) -> Result<Client> {
    let client = connect_unpinned(info, purpose).await?;
    tokio::time::timeout(info.connect_timeout, client.batch_execute(PINNED))
        .await
        .map_err(|_| no_answer(info))?
        .doing(Kind::Connect, || format!("cannot prepare a session on {}", info.label()))?;
    Ok(client)
}

/// Opens a connection and sets nothing: for poolers, whose sessions are not ours to change.
///
/// # Errors
/// As [`connect`].
pub async fn connect_unpinned(info: &ConnInfo, purpose: &str) -> Result<Client> {
    connect_carried(info, purpose).await.map(|(client, _)| client)
}

/// Like [`connect_unpinned`], and gives the task that carries the connection: aborting it closes the socket at once,
/// even while an answer is awaited.
///
/// # Errors
/// As [`connect`].
pub async fn connect_carried(info: &ConnInfo, purpose: &str) -> Result<(Client, JoinHandle<()>)> {
    let (client, connection) = open(info, purpose).await?;
    Ok((client, tokio::spawn(run(connection))))
}

/// Logs in, and leaves the connection to be driven by the caller.
pub(super) async fn open(info: &ConnInfo, purpose: &str) -> Result<(Client, Connection<Empty, Transport>)> {
    let config = client_config(info, purpose, info.options.as_deref());
    tokio::time::timeout(info.connect_timeout, log_in(info, &config))
        .await
        .map_err(|_| no_answer(info))?
        .map_err(|error| explain_client_error(info, error))
}

/// Asks the server to cancel what `client`, a connection to `info`, runs now. It may be too late for that.
///
/// # Errors
/// [`Kind::Connect`] when the server cannot be reached.
pub async fn cancel(info: &ConnInfo, client: &Client) -> Result<()> {
    let token = client.cancel_token();
    for attempt in transport::attempts(info) {
        let dial = Dial { info: info.clone(), attempt: *attempt };
        match tokio::time::timeout(info.connect_timeout, token.cancel_query_raw(tokio::io::empty(), dial))
            .await
        {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => tracing::debug!(%error, ?attempt, "a cancel request did not get through"),
            Err(_) => return Err(no_answer(info)),
        }
    }
    Err(Error::new(Kind::Connect, format!("cannot ask {} to cancel a query", info.label())))
}

/// A pool of up to `size` connections with the pinned settings, which hold again after each use: whatever a user of a
/// connection sets, locks or makes temporary is gone when the next one gets it. It opens nothing yet.
///
/// # Errors
/// [`Kind::Bug`] when the pool cannot be made.
pub fn pool(info: &ConnInfo, purpose: &str, size: usize) -> Result<Pool> {
    let config = client_config(info, purpose, Some(&pinned_options(info)));
    let manager = Manager::from_connect(
        config,
        PoolConnect { info: info.clone() },
        ManagerConfig { recycling_method: RecyclingMethod::Clean },
    );
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_WAIT))
        .create_timeout(Some(info.connect_timeout))
        .recycle_timeout(Some(Duration::from_secs(10)))
        .build()
        .doing(Kind::Bug, || format!("cannot make a pool for {}", info.label()))
}

/// The operator's `options` and then ours, which win.
pub(super) fn pinned_options(info: &ConnInfo) -> String {
    match &info.options {
        Some(options) => format!("{options} {PINNED_OPTIONS}"),
        None => PINNED_OPTIONS.to_owned(),
    }
}

/// Gives pools their connections the way [`connect`] makes them.
struct PoolConnect {
    info: ConnInfo,
}

impl deadpool_postgres::Connect for PoolConnect {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = config.clone();
        async move {
            let (client, connection) = log_in(&self.info, &config).await?;
            Ok((client, tokio::spawn(run(connection))))
        }
        .boxed()
    }
}

/// Opens the stream where tokio-postgres would start TLS, so that our rules for `sslmode` apply and our own error
/// comes through as the cause of its error.
struct Dial {
    info: ConnInfo,
    attempt: Attempt,
}

impl TlsConnect<Empty> for Dial {
    type Stream = Transport;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Transport>>;

    fn connect(self, _nothing: Empty) -> Self::Future {
        async move { transport::open(&self.info, self.attempt).await }.boxed()
    }
}

async fn log_in(
    info: &ConnInfo,
    config: &Config,
) -> Result<(Client, Connection<Empty, Transport>), tokio_postgres::Error> {
    let mut first_failure = None;
    for attempt in transport::attempts(info) {
        let dial = Dial { info: info.clone(), attempt: *attempt };
        match config.connect_raw(tokio::io::empty(), dial).await {
            Err(error)
                if error.code().is_none_or(|code| *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION) =>
            {
                // Another way of the same `sslmode` may be let in; when none is, the first refusal is the one to show.
                first_failure.get_or_insert(error);
            }
            outcome => return outcome,
        }
    }
    // There is always an attempt, so there is a failure; dialing once more gives the same one.
    match first_failure {
        Some(error) => Err(error),
        None => {
            config.connect_raw(tokio::io::empty(), Dial { info: info.clone(), attempt: Attempt::Tls }).await
        }
    }
}

async fn run(connection: Connection<Empty, Transport>) {
    if let Err(error) = connection.await {
        // Whoever uses the client gets an error of their own; this says why.
        tracing::debug!(error = %Error::new(Kind::Connect, "a connection ended").source(error).chain().join(": "));
    }
}

fn client_config(info: &ConnInfo, purpose: &str, options: Option<&str>) -> Config {
    let mut config = Config::new();
    config
        .user(&info.user)
        .dbname(&info.database)
        .application_name(info.application_name(purpose))
        // With these two, tokio-postgres leaves the stream to `Dial`.
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct)
        .channel_binding(match info.channel_binding {
            conninfo::ChannelBinding::Disable => ChannelBinding::Disable,
            conninfo::ChannelBinding::Prefer => ChannelBinding::Prefer,
            conninfo::ChannelBinding::Require => ChannelBinding::Require,
        });
    if let Some(password) = &info.password {
        config.password(password.expose_secret());
    }
    if let Some(options) = options {
        config.options(options);
    }
    config
}

pub(super) fn no_answer(info: &ConnInfo) -> Error {
    let seconds = info.connect_timeout.as_secs();
    Error::new(Kind::Connect, format!("{}:{} did not let us in within {seconds} s", info.host(), info.port()))
        .hint("Check that a healthy Postgres server answers there; `connect_timeout` sets how long we wait.")
}

fn explain_client_error(info: &ConnInfo, error: tokio_postgres::Error) -> Error {
    let code = error.code().map(|code| code.code().to_owned());
    // tokio-postgres has no code for it.
    let missing_password =
        std::error::Error::source(&error).is_some_and(|source| source.to_string() == "password missing");
    match error.into_source().map(|source| source.downcast::<Error>()) {
        Some(Ok(ours)) => *ours,
        Some(Err(source)) => explain_refusal(info, code.as_deref(), missing_password).source(source),
        None => explain_refusal(info, code.as_deref(), missing_password),
    }
}

/// Why a server did not let us in, by its SQLSTATE.
pub(super) fn explain_refusal(info: &ConnInfo, sqlstate: Option<&str>, missing_password: bool) -> Error {
    let (what, hint) = match sqlstate {
        _ if missing_password => (
            format!("{} asks for a password, and none is given", info.label()),
            "Give it in the connection string (through ${ENV}), in PGPASSWORD, or in the password file.",
        ),
        Some("28P01") => (
            format!("{} refuses the password", info.label()),
            "Check user and password; special characters of a URI are percent-encoded.",
        ),
        Some("3D000") => (
            format!("database `{}` does not exist at {}:{}", info.database(), info.host(), info.port()),
            "Check the database's name in the connection string, or create it.",
        ),
        Some("28000") => (
            format!("{} does not let us in", info.label()),
            "Check that the role exists and may log in, and the server's pg_hba.conf for this address, database and `sslmode`.",
        ),
        Some("53300") => (
            format!("{} has no free connection left", info.label()),
            "Raise max_connections there, or free some connections.",
        ),
        Some("57P03") => (
            format!("{} is not ready for connections yet", info.label()),
            "It starts, stops or recovers: try again in a moment.",
        ),
        _ => (
            format!("cannot log in to {}", info.label()),
            "The cause is below; check that a Postgres server answers there.",
        ),
    };
    Error::new(Kind::Connect, what).hint(hint)
}
