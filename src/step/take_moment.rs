//! Take the copy's moment: from here on green does not follow blue any more (`mode: snapshot`).

use super::{Notes, Standing, Step, StepId, mark, prove_keys, sequences, slot, world::World, writes};
use crate::engine::failpoint;
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::TableWrites;
use crate::pg::{lsn::Lsn, name::TableName};
use crate::plan::Side;
use crate::stream::progress;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// Lets green reach one moment of blue, writes down which, and gives the slot up: blue keeps no WAL for the hours that the
/// vendor's SQL may take.
///
/// # Crash
/// The moment is written down, durably, before the slot goes; a slot that is there still goes with the next try. Without
/// the moment, following goes on to a later one.
#[derive(Debug, Clone)]
pub struct TakeMoment {
    /// Whether revocations are carried after it.
    pub has_rules: bool,
}

/// Of which moment green's copy is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Green has every transaction of blue whose commit ended here or before, and no other.
    pub lsn: Lsn,
    /// Whatever committed before this time, by blue's clock, is among them.
    pub at: jiff::Timestamp,
    /// Blue's counters right before, so that later ones tell what came after.
    pub counted: Vec<TableWrites>,
}

const MARK: &str = "the copy's moment";

#[async_trait]
impl Step<World> for TakeMoment {
    fn id(&self) -> StepId {
        StepId::new("replicate/take-moment")
    }

    fn title(&self) -> String {
        let but = if self.has_rules { ", but for revocations" } else { "" };
        format!("Stop following at one moment of blue: what blue writes after it is lost{but}")
    }

    fn shows(&self) -> Vec<String> {
        vec![
            "green: setval for every sequence, as in the fence".into(),
            "blue: drop_replication_slot …; the slot of revocations stays".into(),
        ]
    }

    fn locks(&self) -> String {
        "none".into()
    }

    fn deadline(&self) -> String {
        "120 s without any progress of following".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let taken = read(&*world.client(Side::Green).await?, world.attempt.number).await?.is_some();
        let is_done = taken && !slot::is_there(world).await?;
        Ok(if is_done { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let known = read(&*world.client(Side::Green).await?, world.attempt.number).await?;
        let moment = match known {
            Some(moment) => moment,
            None => take(world).await?,
        };
        // Decoding does not carry them, and the vendor's SQL may ask for numbers of rows that it makes.
        sequences::carry(world).await?;
        failpoint::hit("moment:taken");
        world.prove_lease().await?;
        slot::give_up(world).await?;
        Ok(Some(serde_json::json!({ "lsn": moment.lsn, "at": moment.at })))
    }

    /// The copy is then of no moment; whoever goes further back removes it.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// Blue's counters and clock come first, so that both err on the safe side: green may have a little more than they say.
async fn take(world: &World) -> Result<Moment> {
    let (counted, at) = {
        let blue = world.client(Side::Blue).await?;
        let counted = writes::read(&blue, &tables(world)).await?.tables;
        let row = blue
            .query_one("select clock_timestamp()", &[])
            .await
            .doing(Kind::Server, || "cannot read blue's clock".into())?;
        (counted, row.get(0))
    };
    world.start_following().await?;
    prove_keys::follow_past_now(world).await?;
    world.follow_durably().await?;
    world.stop_following().await?;
    let position = progress::read(&*world.client(Side::Green).await?, &world.attempt.slot()).await?;
    let lsn = position
        .ok_or_else(|| Error::new(Kind::Bug, "green does not know how far it has followed"))?
        .position;
    let moment = Moment { lsn, at, counted };
    let note =
        serde_json::to_value(&moment).doing(Kind::Bug, || "the copy's moment cannot be written".into())?;
    // Durable, with every batch before it: without the slot, what a crash of green took could not be had again.
    mark::set_with(world, MARK, &note).await?;
    world.note(format!("green is as blue was at {lsn}; nothing but revocations is carried from here on"));
    Ok(moment)
}

/// The moment of an attempt's copy; `None` while green still follows.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(green: &Client, attempt: i32) -> Result<Option<Moment>> {
    mark::read(green, attempt, MARK).await
}

/// What blue has written to the copied tables since the moment, tables without any left out; and those of which it cannot tell.
///
/// # Errors
/// [`Kind::Server`].
pub async fn written_since(blue: &Client, moment: &Moment) -> Result<(Vec<TableWrites>, Vec<TableName>)> {
    let tables: Vec<TableName> = moment.counted.iter().map(|table| table.table.clone()).collect();
    Ok(writes::read(blue, &tables).await?.since(&moment.counted))
}

/// Blue's copied tables, once each.
fn tables(world: &World) -> Vec<TableName> {
    let tables: BTreeSet<&TableName> = world.tables.iter().map(|table| &table.blue).collect();
    tables.into_iter().cloned().collect()
}
