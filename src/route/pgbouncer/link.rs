//! A raw connection to PgBouncer: no SET, no prepared statement, ended for certain when dropped.
//!
//! The admin console takes simple queries only, and refuses the session settings that [`crate::pg::connect`] makes;
//! in transaction mode PgBouncer before 1.21 has no prepared statements either.

use crate::{
    error::{Doing, Error, Kind, Result},
    pg::{connect::connect_carried, conninfo::ConnInfo},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_postgres::{Client, SimpleQueryMessage};

/// A connection and the task that carries it.
pub struct Link {
    client: Client,
    carrier: JoinHandle<()>,
    label: String,
}

impl Drop for Link {
    /// Closes the socket now. Without it a carrier whose last command was never answered (PAUSE) would live on.
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`Kind::Connect`] when refused, [`Kind::Deadline`] when `until` passes.
    pub async fn open(info: &ConnInfo, until: Instant) -> Result<Link> {
        let label = format!("PgBouncer at {}", info.label());
        let (client, carrier) = timeout_at(until, connect_carried(info, "route"))
            .await
            .map_err(|_| Error::new(Kind::Deadline, format!("{label} did not answer in time")))??;
        Ok(Link { client, carrier, label })
    }

    /// Runs one simple query.
    ///
    /// # Errors
    /// [`Kind::Server`] when PgBouncer answers with an error, [`Kind::Connect`] when the connection is lost,
    /// [`Kind::Deadline`] when `until` passes; the query may still run then.
    pub async fn ask(&self, query: &str, until: Instant) -> Result<Vec<SimpleQueryMessage>> {
        let doing = || format!("`{query}` failed on {}", self.label);
        match timeout_at(until, self.client.simple_query(query)).await {
            Ok(Ok(messages)) => Ok(messages),
            Ok(Err(error)) => {
                let kind = if error.as_db_error().is_some() { Kind::Server } else { Kind::Connect };
                Err(error).doing(kind, doing)
            }
            Err(_) => Err(Error::new(
                Kind::Deadline,
                format!("`{query}` was not answered in time by {}", self.label),
            )),
        }
    }
}
