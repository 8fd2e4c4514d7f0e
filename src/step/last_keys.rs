//! The keys changed last, handed from one follower to the next: the fence compares them, whoever applied them.
//!
//! What cannot be read or written here is only a smaller comparison, so it is logged and nothing fails. Any key is safe
//! to compare: inside the fence green has every row as blue has it.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use crate::plan::Side;
use crate::stream::follow::DirtyKey;
use std::time::Duration;

/// How long green may take for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// As green's schema `migrate` holds a key, which is in green's own tables anyway.
type Kept = (TableName, Vec<String>);

/// The keys that the follower before us changed last, oldest first.
pub async fn load(world: &World) -> Vec<DirtyKey> {
    match within_deadline(read(world)).await {
        Ok(keys) => keys,
        Err(error) => {
            tracing::warn!(why = %error.chain().join(": "), "the keys changed last are not known");
            Vec::new()
        }
    }
}

/// Writes them down in place of those before; nothing when there are none.
pub async fn keep(world: &World, keys: &[DirtyKey]) {
    if keys.is_empty() {
        return;
    }
    if let Err(error) = within_deadline(write(world, keys)).await {
        tracing::warn!(why = %error.chain().join(": "), "the keys changed last could not be written down");
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Kind::Deadline, "green does not answer in time");
    tokio::time::timeout(DEADLINE, work).await.map_err(late)?
}

async fn read(world: &World) -> Result<Vec<DirtyKey>> {
    let doing = || "cannot read the keys changed last".to_owned();
    let green = world.client(Side::Green).await?;
    let row = green
        .query_opt(include_str!("../../sql/stream/read_last_keys.sql"), &[&world.attempt.slot()])
        .await
        .doing(Kind::Server, doing)?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let kept: Vec<Kept> = serde_json::from_value(row.get("keys")).doing(Kind::Bug, doing)?;
    Ok(kept.into_iter().map(|(table, key)| DirtyKey { table, key }).collect())
}

async fn write(world: &World, keys: &[DirtyKey]) -> Result<()> {
    let doing = || "cannot write down the keys changed last".to_owned();
    let kept: Vec<(&TableName, &Vec<String>)> = keys.iter().map(|key| (&key.table, &key.key)).collect();
    let kept = serde_json::to_value(kept).doing(Kind::Bug, doing)?;
    let mut green = world.client(Side::Green).await?;
    let tx = world.transaction(&mut green, "write down the keys changed last").await?;
    tx.execute(include_str!("../../sql/stream/write_last_keys.sql"), &[&world.attempt.slot(), &kept])
        .await
        .doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)
}
