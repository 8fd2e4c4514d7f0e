//! Marks on green for effects that leave no trace of their own that tells done from half-done.

use super::world::World;
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use serde::de::DeserializeOwned;
use tokio_postgres::{Client, Transaction};

/// Whether an attempt's mark is set.
pub async fn is_set(world: &World, label: &str) -> Result<bool> {
    let green = world.client(Side::Green).await?;
    let row = green
        .query_opt("select from migrate.manifest where object = $1", &[&key(world.attempt.number, label)])
        .await
        .doing(Kind::Server, || format!("cannot look whether green is marked `{label}`"))?;
    Ok(row.is_some())
}

/// Sets a mark, once the effect is complete.
pub async fn set(world: &World, label: &str) -> Result<()> {
    set_with(world, label, &serde_json::json!({})).await
}

/// Sets a mark that says something, durably, and with it all that green has committed before.
pub async fn set_with(world: &World, label: &str, note: &serde_json::Value) -> Result<()> {
    let doing = || format!("cannot mark green `{label}`");
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "mark green").await?;
    tx.batch_execute("set local synchronous_commit = on").await.doing(Kind::Server, doing)?;
    write(&tx, world, label, note).await?;
    tx.commit().await.doing(Kind::Server, doing)
}

/// Sets a mark in the transaction of the effect.
pub async fn set_in(tx: &Transaction<'_>, world: &World, label: &str) -> Result<()> {
    write(tx, world, label, &serde_json::json!({})).await
}

async fn write(tx: &Transaction<'_>, world: &World, label: &str, note: &serde_json::Value) -> Result<()> {
    tx.execute(
        "insert into migrate.manifest (object, prior) values ($1, $2) on conflict (object) do nothing",
        &[&key(world.attempt.number, label), note],
    )
    .await
    .doing(Kind::Server, || format!("cannot mark green `{label}`"))?;
    Ok(())
}

/// What an attempt's mark says, when it is set.
pub async fn read<T: DeserializeOwned>(green: &Client, attempt: i32, label: &str) -> Result<Option<T>> {
    let doing = || format!("cannot look whether green is marked `{label}`");
    let row = green
        .query_opt("select prior from migrate.manifest where object = $1", &[&key(attempt, label)])
        .await
        .doing(Kind::Server, doing)?;
    row.map(|row| serde_json::from_value(row.get("prior"))).transpose().doing(Kind::Bug, doing)
}

/// Takes a mark away, once the effect is gone.
pub async fn clear(world: &World, label: &str) -> Result<()> {
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "unmark green").await?;
    tx.execute("delete from migrate.manifest where object = $1", &[&key(world.attempt.number, label)])
        .await
        .doing(Kind::Server, || format!("cannot take green's mark `{label}` away"))?;
    tx.commit().await.doing(Kind::Server, || format!("cannot take green's mark `{label}` away"))
}

fn key(attempt: i32, label: &str) -> String {
    format!("attempt {attempt}: {label}")
}
