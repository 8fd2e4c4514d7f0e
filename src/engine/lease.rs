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
use tokio_postgres::{Client, Transaction};

/// A holder that has not renewed for this long has lost its right.
pub const EXPIRY: Duration = Duration::from_secs(15);

/// How often a holder renews.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Whether a living holder may be pushed aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Refuse while another holder lives.
    OnlyWhenFree,
    /// Take it from the holder of this epoch, and from no other: it was asked to step aside and did not answer in time.
    FromEpoch(i64),
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

/// Refuses to push aside who must not be.
///
/// # Errors
/// [`Kind::Lease`] when somebody alive holds the lease and `takeover` does not allow to take it from them.
pub fn refuse_living(held: Option<&Holder>, takeover: Takeover) -> Result<()> {
    match held.filter(|held| held.alive && takeover != Takeover::FromEpoch(held.epoch)) {
        None => Ok(()),
        Some(held) => Err(Error::new(
            Kind::Lease,
            format!("{} is at work on this migration (epoch {})", held.name, held.epoch),
        )
        .hint("wait until it ends or stop it; `migrate status` shows what it does")),
    }
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
    refuse_living(before.as_ref(), takeover)?;
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

/// Begins a transaction that has proved our lease, with a lock timeout of two seconds.
///
/// # Errors
/// [`Kind::Lease`] when the lease is no longer ours.
pub async fn transaction<'c>(client: &'c mut Client, epoch: i64, doing: &str) -> Result<Transaction<'c>> {
    let tx = client.transaction().await.doing(Kind::Server, || format!("cannot begin to {doing}"))?;
    tx.batch_execute("set local lock_timeout = '2s'")
        .await
        .doing(Kind::Server, || format!("cannot begin to {doing}"))?;
    guard(&tx, epoch).await?;
    Ok(tx)
}

/// Says that we live. Returns the error that ends us when the lease is gone.
pub async fn renew(client: &Client, epoch: i64) -> Result<()> {
    let renewed = client
        .execute("update migrate.lease set renewed_at = clock_timestamp() where epoch = $1", &[&epoch])
        .await
        .doing(Kind::Server, || "cannot renew the lease".into())?;
    if renewed == 1 { Ok(()) } else { Err(lease_lost()) }
}

/// Makes another session of ours the one that says that we live, after the first one broke.
///
/// # Errors
/// [`Kind::Lease`] when the lease is no longer ours.
pub async fn move_here(client: &Client, epoch: i64) -> Result<()> {
    let moved = client
        .execute(include_str!("../../sql/engine/move_lease.sql"), &[&epoch])
        .await
        .doing(Kind::Server, || "cannot renew the lease".into())?;
    if moved == 1 { Ok(()) } else { Err(lease_lost()) }
}

/// Gives the lease up, so that the next one need not wait. The row stays: the epoch must not be forgotten.
pub async fn release(client: &Client, epoch: i64) -> Result<()> {
    client
        .execute("update migrate.lease set backend_pid = null where epoch = $1", &[&epoch])
        .await
        .doing(Kind::Server, || "cannot give the lease up".into())?;
    Ok(())
}
