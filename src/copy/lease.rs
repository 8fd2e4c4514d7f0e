//! Sessions and transactions that act on green under the lease.

use crate::engine::lease::guard;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{connect::connect, conninfo::ConnInfo};
use tokio_postgres::Client;

/// A session by which a takeover finds us. A backend in the middle of a long statement notices by itself, within a
/// second, that we are gone, and lets go of its locks.
pub(super) async fn session(info: &ConnInfo, purpose: &str, epoch: i64) -> Result<Client> {
    let client = connect(&info.acting_as(epoch), purpose).await?;
    if let Err(error) = client.batch_execute("set client_connection_check_interval = '1s'").await {
        // Servers on some systems cannot look; then a statement ends before its session does.
        tracing::debug!(%error, "the server does not look for vanished clients");
    }
    Ok(client)
}

/// Begins a transaction under the lease.
///
/// # Errors
/// [`Kind::Lease`] when another epoch holds it; the transaction is then still open and goes with the connection.
pub(super) async fn begin(client: &Client, epoch: i64) -> Result<()> {
    client
        .batch_execute("begin")
        .await
        .doing(Kind::Server, || "a transaction cannot be begun on green".into())?;
    guard(client, epoch).await
}

/// Commits what [`begin`] began.
///
/// # Errors
/// [`Kind::Server`] when green refuses the commit.
pub(super) async fn commit(client: &Client, what: &str) -> Result<()> {
    client
        .batch_execute("commit")
        .await
        .doing(Kind::Server, || format!("{what} cannot be committed on green"))
}

/// Names the remedy when our role may not act as a replica.
pub(super) fn no_replica_role(error: tokio_postgres::Error) -> Error {
    Error::new(Kind::Request, "our role on green may not set session_replication_role")
        .hint("as a superuser of green: grant set on parameter session_replication_role to the role")
        .source(error)
}
