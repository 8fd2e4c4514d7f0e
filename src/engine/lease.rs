//! The right to act: one row on each side, with an epoch that only grows.
//!
//! Every transaction of ours first reads its row `for key share` and stops when the epoch is not its own, so a
//! process that was thought dead cannot write once somebody took over. A holder lives while its session on that
//! server exists and has renewed within [`EXPIRY`]: after `kill -9` the session is gone at once; a laptop that left
//! the network is waited for that long.

use super::journal::lease_lost;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Side;
use std::time::Duration;
use tokio_postgres::Client;

/// A holder that has not renewed for this long has lost its right.
pub const EXPIRY: Duration = Duration::from_secs(15);

/// How often a holder renews.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Whether a living holder may be pushed aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Refuse while another holder lives.
    OnlyWhenFree,
    /// Take it: the holder was asked and did not answer in time.
    Always,
}

/// Who holds a side's lease.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its epoch.
    pub epoch: i64,
    /// What it called itself.
    pub name: String,
    /// Its session exists and has renewed in time.
    pub alive: bool,
}

/// Who holds the lease on the side `client` is connected to; `None` when nobody ever did.
pub async fn holder(client: &Client) -> Result<Option<Holder>> {
    holder_in(client).await
}

async fn holder_in<C: tokio_postgres::GenericClient>(client: &C) -> Result<Option<Holder>> {
    let expiry_s = EXPIRY.as_secs_f64();
    let row = client
        .query_opt(include_str!("../../sql/engine/read_lease.sql"), &[&expiry_s])
        .await
        .doing(Kind::Server, || "cannot read the lease".into())?;
    Ok(row.map(|row| Holder { epoch: row.get("epoch"), name: row.get("holder"), alive: row.get("alive") }))
}

/// Takes the lease on one side with an epoch of at least `epoch`, and returns the epoch taken.
///
/// In this order, and why: (1) sessions of earlier epochs are ended and waited for, so that nothing they have open can
/// commit any more; (2) the table is locked in a mode that [`guard`] waits for, so that none that comes back passes;
/// (3) the row is changed. A lock for the row alone would not do: `for key share` does not wait for an update of it.
///
/// # Errors
/// [`Kind::Lease`] when somebody alive holds it and `takeover` does not allow to push them aside, or when somebody
/// else took it in between.
pub async fn take(
    client: &mut Client,
    side: Side,
    holder_name: &str,
    epoch: i64,
    takeover: Takeover,
) -> Result<i64> {
    let doing = || format!("cannot take the lease on {side}");
    let before = holder(client).await?;
    if let Some(held) = before.as_ref().filter(|held| held.alive && takeover == Takeover::OnlyWhenFree) {
        return Err(Error::new(
            Kind::Lease,
            format!("{} is at work on this migration (epoch {})", held.name, held.epoch),
        )
        .hint("wait until it ends or stop it; `migrate status` shows what it does"));
    }
    let before_epoch = before.map_or(0, |held| held.epoch);
    let next = epoch.max(before_epoch + 1);
    client
        .execute(include_str!("../../sql/engine/end_sessions.sql"), &[&next])
        .await
        .doing(Kind::Server, doing)?;
    let tx = client.transaction().await.doing(Kind::Server, doing)?;
    tx.batch_execute("set local lock_timeout = '5s'; lock table migrate.lease in exclusive mode")
        .await
        .doing(Kind::Server, doing)?;
    let now_epoch = holder_in(&tx).await?.map_or(0, |held| held.epoch);
    if now_epoch != before_epoch {
        return Err(Error::new(Kind::Lease, format!("somebody else just took over on {side}"))
            .hint("`migrate status` names the holder"));
    }
    tx.execute(include_str!("../../sql/engine/take_lease.sql"), &[&next, &holder_name])
        .await
        .doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)?;
    Ok(next)
}

/// Stops the caller's transaction when the lease is no longer ours.
///
/// # Errors
/// [`Kind::Lease`].
pub async fn guard<C: tokio_postgres::GenericClient>(tx: &C, epoch: i64) -> Result<()> {
    let row = tx
        .query_opt("select from migrate.lease where epoch = $1 for key share", &[&epoch])
        .await
        .doing(Kind::Server, || "cannot read the lease".into())?;
    row.map(|_| ()).ok_or_else(lease_lost)
}

/// Says that we live. Returns the error that ends us when the lease is gone.
pub async fn renew(client: &Client, epoch: i64) -> Result<()> {
    let renewed = client
        .execute("update migrate.lease set renewed_at = clock_timestamp() where epoch = $1", &[&epoch])
        .await
        .doing(Kind::Server, || "cannot renew the lease".into())?;
    if renewed == 1 { Ok(()) } else { Err(lease_lost()) }
}

/// Gives the lease up, so that the next one need not wait. The row stays: the epoch must not be forgotten.
pub async fn release(client: &Client, epoch: i64) -> Result<()> {
    client
        .execute("update migrate.lease set backend_pid = null where epoch = $1", &[&epoch])
        .await
        .doing(Kind::Server, || "cannot give the lease up".into())?;
    Ok(())
}

/// Keeps the lease on every side for as long as it lives: two connections, renewed from a task of their own.
pub struct Keeper {
    epoch: i64,
    clients: std::sync::Arc<Vec<Client>>,
    task: tokio::task::JoinHandle<()>,
    lost: tokio::sync::watch::Receiver<Option<String>>,
}

impl Keeper {
    /// Takes the lease on blue first, then on green, with one epoch for both.
    ///
    /// The same order everywhere, so that two that start at once do not each hold one side. The epoch is above what
    /// either side has seen.
    ///
    /// # Errors
    /// As [`take`].
    pub async fn take(
        mut sides: Vec<(Side, Client)>,
        holder_name: &str,
        takeover: Takeover,
    ) -> Result<Keeper> {
        let mut epoch = 1;
        for (_, client) in &sides {
            epoch = epoch.max(holder(client).await?.map_or(0, |held| held.epoch) + 1);
        }
        for (side, client) in &mut sides {
            let taken = take(client, *side, holder_name, epoch, takeover).await?;
            if taken != epoch {
                return Err(Error::new(Kind::Lease, format!("somebody else just took over on {side}"))
                    .hint("`migrate status` names the holder"));
            }
        }
        let clients = std::sync::Arc::new(sides.into_iter().map(|(_, client)| client).collect::<Vec<_>>());
        let (tell, lost) = tokio::sync::watch::channel(None);
        let renewing = clients.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                for client in renewing.iter() {
                    let renewed = tokio::time::timeout(RENEW_EVERY, renew(client, epoch)).await;
                    let problem = match renewed {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => error.chain().join(": "),
                        // Not lost yet: the next round may get through before it expires.
                        Err(_) => continue,
                    };
                    tell.send_replace(Some(problem));
                    return;
                }
            }
        });
        Ok(Keeper { epoch, clients, task, lost })
    }

    /// The epoch, the same on every side.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns the error that ends us, once the lease is gone; never returns while it is ours.
    pub async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        let problem = match lost.wait_for(Option::is_some).await {
            Ok(problem) => problem.clone().unwrap_or_default(),
            Err(_) => "the task that renews it ended".into(),
        };
        Error::new(Kind::Lease, format!("the lease is lost: {problem}"))
            .hint("`migrate status` names the holder; the same command goes on from where this one stopped")
    }

    /// Gives the lease up, so that the next command need not wait.
    pub async fn release(self) {
        self.task.abort();
        for client in self.clients.iter() {
            // Best effort: the session ends with us anyway, and then the lease counts as free.
            if let Err(error) = release(client, self.epoch).await {
                tracing::debug!(?error, "could not give the lease up");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
