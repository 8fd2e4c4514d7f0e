//! The first statement of each of our transactions on green.

use crate::error::{Doing, Error, Kind, Result};
use tokio_postgres::Client;

/// Proves that the lease is still of `epoch`, and keeps a takeover from ending it before this transaction does.
///
/// # Errors
/// [`Kind::Lease`] when another epoch holds it.
pub(super) async fn hold(client: &Client, epoch: i64) -> Result<()> {
    let rows = client
        .query("select 1 from migrate.lease where epoch = $1 for key share", &[&epoch])
        .await
        .doing(Kind::Server, || "green's lease cannot be read".into())?;
    if rows.is_empty() {
        return Err(Error::new(Kind::Lease, format!("epoch {epoch} no longer holds the lease on green"))
            .hint("another command took over; `migrate status` names its holder"));
    }
    Ok(())
}

/// Begins a transaction under the lease.
///
/// # Errors
/// As [`hold`]; the transaction is then still open and goes with the connection.
pub(super) async fn begin(client: &Client, epoch: i64) -> Result<()> {
    client
        .batch_execute("begin")
        .await
        .doing(Kind::Server, || "a transaction cannot be begun on green".into())?;
    hold(client, epoch).await
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
