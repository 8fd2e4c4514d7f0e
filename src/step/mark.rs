//! Marks on green for effects that leave no trace of their own that tells done from half-done.

use super::world::World;
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use tokio_postgres::Transaction;

/// Whether an attempt's mark is set.
pub async fn is_set(world: &World, label: &str) -> Result<bool> {
    let green = world.client(Side::Green).await?;
    let row = green
        .query_opt("select from migrate.manifest where object = $1", &[&key(world, label)])
        .await
        .doing(Kind::Server, || format!("cannot look whether green is marked `{label}`"))?;
    Ok(row.is_some())
}

/// Sets a mark, once the effect is complete.
pub async fn set(world: &World, label: &str) -> Result<()> {
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "mark green").await?;
    set_in(&tx, world, label).await?;
    tx.commit().await.doing(Kind::Server, || format!("cannot mark green `{label}`"))
}

/// Sets a mark in the transaction of the effect.
pub async fn set_in(tx: &Transaction<'_>, world: &World, label: &str) -> Result<()> {
    tx.execute(
        "insert into migrate.manifest (object, prior) values ($1, '{}') on conflict (object) do nothing",
        &[&key(world, label)],
    )
    .await
    .doing(Kind::Server, || format!("cannot mark green `{label}`"))?;
    Ok(())
}

/// Takes a mark away, once the effect is gone.
pub async fn clear(world: &World, label: &str) -> Result<()> {
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "unmark green").await?;
    tx.execute("delete from migrate.manifest where object = $1", &[&key(world, label)])
        .await
        .doing(Kind::Server, || format!("cannot take green's mark `{label}` away"))?;
    tx.commit().await.doing(Kind::Server, || format!("cannot take green's mark `{label}` away"))
}

fn key(world: &World, label: &str) -> String {
    format!("attempt {}: {label}", world.attempt.number)
}
