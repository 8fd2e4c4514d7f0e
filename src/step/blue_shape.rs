//! Whether blue's tables have the shape that they were copied in, or one that the plan lets us go on with.
//!
//! A change is accepted by whoever sees it first, `replicate` or the gates of `cutover`: it is told, and written down on green with
//! the digest of the whole shape. Inside the fence only that digest is looked up, so what nobody was told of is refused there.

use super::world::World;
use crate::error::{Doing, Kind, Result};
use crate::facts::{ShapeChanges, compare_shapes};
use crate::pg::catalog;
use crate::plan::{OnDdl, Side};
use tokio_postgres::Client;

const ACCEPT_SHAPE: &str = include_str!("../../sql/replicate/accept_shape.sql");
const FIND_ACCEPTED: &str = include_str!("../../sql/replicate/find_accepted_shape.sql");

/// What a look at blue's shape says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShapeSeen {
    /// As it was when the attempt was pinned.
    AsPinned,
    /// Changed in ways that the plan lets us go on with, each in words; they are written down.
    Accepted(Vec<String>),
    /// Changed; what is in the way, as far as it is known.
    Changed(Vec<String>),
}

/// Looks, judges, and writes down what is accepted.
///
/// # Errors
/// [`Kind::Server`] when a side cannot be asked; [`Kind::Lease`].
pub async fn look(world: &World) -> Result<ShapeSeen> {
    let (digest, now) = {
        let blue = world.client(Side::Blue).await?;
        let digest = catalog::ddl_fingerprint(&blue, &world.gate_tables).await?;
        if digest == world.blue_facts.ddl_fingerprint {
            return Ok(ShapeSeen::AsPinned);
        }
        if world.plan.replicate.on_ddl == OnDdl::Stop {
            return Ok(ShapeSeen::Changed(Vec::new()));
        }
        let now = catalog::shape(&blue, &world.gate_tables).await?;
        // The lines must be of the digest that is written down.
        if catalog::ddl_fingerprint(&blue, &world.gate_tables).await? != digest {
            return Ok(ShapeSeen::Changed(vec!["it changes just now".into()]));
        }
        (digest, now)
    };
    let unmapped: Vec<_> = world
        .gate_tables
        .iter()
        .filter(|table| world.plan.replicate.writes_unmapped(table))
        .cloned()
        .collect();
    let green = catalog::shape(&*world.client(Side::Green).await?, &unmapped).await?;
    let ShapeChanges { harmless, harmful } = compare_shapes(&world.blue_facts.shape, &now, &green);
    // Another digest with the same lines is nothing that we understand.
    if !harmful.is_empty() || harmless.is_empty() {
        return Ok(ShapeSeen::Changed(harmful));
    }
    accept(world, &digest, &harmless).await?;
    Ok(ShapeSeen::Accepted(harmless))
}

async fn accept(world: &World, digest: &str, changes: &[String]) -> Result<()> {
    let doing = || "the changes of blue's shape cannot be written down on green".to_owned();
    let mut client = world.client(Side::Green).await?;
    let tx = world.transaction(&mut client, "accept a change of blue's shape").await?;
    let changes = serde_json::json!({ "changes": changes });
    tx.execute(ACCEPT_SHAPE, &[&object(world.attempt.number, digest), &changes])
        .await
        .doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)
}

/// Whether a shape is the pinned one, or was accepted before.
///
/// # Errors
/// [`Kind::Server`] when green cannot be asked.
pub(super) async fn was_accepted(world: &World, digest: &str) -> Result<bool> {
    if digest == world.blue_facts.ddl_fingerprint {
        return Ok(true);
    }
    if world.plan.replicate.on_ddl == OnDdl::Stop {
        return Ok(false);
    }
    let found = world
        .client(Side::Green)
        .await?
        .query(FIND_ACCEPTED, &[&object(world.attempt.number, digest)])
        .await
        .doing(Kind::Server, || "green does not tell what was accepted of blue's shape".into())?;
    Ok(!found.is_empty())
}

/// Every change of blue's shape that an attempt has accepted, in words.
///
/// # Errors
/// [`Kind::Server`].
pub async fn list_accepted(green: &Client, attempt: i32) -> Result<Vec<String>> {
    let rows = green
        .query(FIND_ACCEPTED, &[&object(attempt, "%")])
        .await
        .doing(Kind::Server, || "green does not tell what was accepted of blue's shape".into())?;
    let mut changes: Vec<String> = Vec::new();
    for row in &rows {
        let seen: serde_json::Value = row.get("prior");
        let said = seen["changes"].as_array().into_iter().flatten().filter_map(|it| it.as_str());
        changes.extend(said.map(str::to_owned));
    }
    changes.sort();
    changes.dedup();
    Ok(changes)
}

fn object(attempt: i32, digest: &str) -> String {
    format!("attempt {attempt}: shape {digest}")
}
