//! The slot that green follows: made once for an attempt, and kept over all tries at the copy.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{lsn::Lsn, replication::ReplicationConn};
use crate::plan::Side;
use std::time::{Duration, Instant};

/// How long the slot may wait for open write transactions of blue's whole server, and how long we wait for them once more.
pub(super) const SLOT_DEADLINE: Duration = Duration::from_secs(60);

/// How often we look whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Makes the slot and writes down on green where following begins, or finds both from an earlier try; tables that were
/// copied whole since then stay. Gives that position.
///
/// # Crash
/// A slot without its position on green is dropped by the next try. Until then it holds blue's WAL, within
/// `max_slot_wal_keep_size`.
///
/// # Errors
/// [`Kind::Deadline`] when write transactions of blue do not end; no slot is left then.
pub(super) async fn open(world: &World) -> Result<Lsn> {
    if let Some(position) = find(world).await? {
        return Ok(position);
    }
    let slot = world.attempt.slot();
    let mut conn = ReplicationConn::connect(&world.blue_info, "slot").await?;
    conn.drop_slot(&slot).await?;
    let created = conn.create_slot(&slot, SLOT_DEADLINE).await?;
    if let Err(error) = writers_have_ended(world).await {
        conn.drop_slot(&slot).await?;
        return Err(error);
    }
    let doing = || "cannot write down where following begins".into();
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "write down where following begins").await?;
    // What was copied before this slot lacks what was written between.
    tx.execute(
        "with cut as (delete from migrate.copy_chunk where attempt = $1)
         delete from migrate.copy_table where attempt = $1",
        &[&world.attempt.number],
    )
    .await
    .doing(Kind::Server, doing)?;
    tx.execute(
        include_str!("../../sql/replicate/begin_progress.sql"),
        &[&slot, &created.consistent_point.to_string()],
    )
    .await
    .doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)?;
    Ok(created.consistent_point)
}

/// Drops the slot and forgets where following began.
pub(super) async fn close(world: &World) -> Result<()> {
    let slot = world.attempt.slot();
    ReplicationConn::connect(&world.blue_info, "drop slot").await?.drop_slot(&slot).await?;
    let doing = || "cannot forget where following begins".into();
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "forget where following begins").await?;
    tx.execute("delete from migrate.progress where slot = $1", &[&slot]).await.doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)
}

/// Drops the slot for good; how far green has followed stays written down.
pub(super) async fn give_up(world: &World) -> Result<()> {
    ReplicationConn::connect(&world.blue_info, "drop slot").await?.drop_slot(&world.attempt.slot()).await
}

/// Whether the slot is on blue.
pub(super) async fn is_there(world: &World) -> Result<bool> {
    let row = world
        .client(Side::Blue)
        .await?
        .query_opt(include_str!("../../sql/capture/read_slot.sql"), &[&world.attempt.slot()])
        .await
        .doing(Kind::Server, || "cannot look for our slot on blue".into())?;
    Ok(row.is_some())
}

/// Where following begins, when the slot of an earlier try still has everything from there on.
async fn find(world: &World) -> Result<Option<Lsn>> {
    let slot = world.attempt.slot();
    let begun = crate::stream::progress::read(&*world.client(Side::Green).await?, &slot).await?;
    let Some(begun) = begun else { return Ok(None) };
    let row = world
        .client(Side::Blue)
        .await?
        .query_opt(include_str!("../../sql/replicate/read_begun.sql"), &[&slot])
        .await
        .doing(Kind::Server, || "cannot look for our slot on blue".into())?;
    let confirmed = match row {
        Some(row) => row.get::<_, String>("confirmed").parse::<Lsn>().ok(),
        None => None,
    };
    if confirmed.is_some_and(|confirmed| confirmed <= begun.position) {
        return Ok(Some(begun.position));
    }
    world.warn(format!(
        "slot {slot} of an earlier copy is gone or has lost what green needs, so all is copied anew"
    ));
    Ok(None)
}

/// Waits until every transaction that runs now has ended.
///
/// A commit becomes visible a little after it is written to the log, and with synchronous replication much later. One that
/// was written before the slot's beginning is not streamed; a snapshot taken before it is visible would miss it as well.
async fn writers_have_ended(world: &World) -> Result<()> {
    let begun = Instant::now();
    let first = running(world).await?;
    let mut now = first;
    while now.oldest < first.next {
        if begun.elapsed() > SLOT_DEADLINE {
            return Err(Error::new(
                Kind::Deadline,
                format!(
                    "write transactions on blue that ran when our slot was made have not ended within {} s",
                    SLOT_DEADLINE.as_secs()
                ),
            )
            .hint("look in blue's pg_stat_activity for the oldest xact_start, of any database; end it or wait, then replicate again"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        now = running(world).await?;
    }
    Ok(())
}

/// Ids of transactions, with their epoch.
#[derive(Clone, Copy)]
struct Running {
    oldest: u64,
    next: u64,
}

async fn running(world: &World) -> Result<Running> {
    let row = world
        .client(Side::Blue)
        .await?
        .query_one(include_str!("../../sql/replicate/read_running.sql"), &[])
        .await
        .doing(Kind::Server, || "blue does not tell which transactions run".into())?;
    let id = |column: &str| {
        row.get::<_, String>(column)
            .parse()
            .map_err(|_| Error::new(Kind::Bug, "a transaction id of blue is not a number"))
    };
    Ok(Running { oldest: id("oldest")?, next: id("next")? })
}
