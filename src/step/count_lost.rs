//! Count what blue has and green has not, once blue is fenced (`mode: snapshot`).

use super::{Notes, Standing, Step, StepId, mark, take_moment, world::World};
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::TableWrites;
use crate::pg::name::TableName;
use crate::plan::Side;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_postgres::Client;

/// Reads blue's counters a last time. It waits until the server has heard of the last writes.
///
/// # Crash
/// Blue takes no writes any more, so doing it again counts the same.
#[derive(Debug, Clone)]
pub struct CountLost;

/// What blue wrote between the copy's moment and the fence, by its own counters: about what green does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Tables without any are left out.
    pub tables: Vec<TableWrites>,
    /// Tables whose counters began anew meanwhile.
    pub not_known: Vec<TableName>,
}

/// A server takes counts over from a session at once when it ends; to be told to end takes it a moment.
const COUNTS_ARRIVE_IN: Duration = Duration::from_secs(1);

const MARK: &str = "what blue has and green has not";

#[async_trait]
impl Step<World> for CountLost {
    fn id(&self) -> StepId {
        StepId::new("settle/count-lost")
    }

    fn title(&self) -> String {
        "Count what blue wrote after the copy's moment, table by table, for the report".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let moment = take_moment::read(&*world.client(Side::Green).await?, world.attempt.number)
            .await?
            .ok_or_else(|| Error::new(Kind::Bug, "green does not know of which moment its copy is"))?;
        // Sessions tell their counts when they end, and these were ended a moment ago.
        tokio::time::sleep(COUNTS_ARRIVE_IN).await;
        let (tables, not_known) =
            take_moment::written_since(&*world.client(Side::Blue).await?, &moment).await?;
        let lost = Lost { tables, not_known };
        let note =
            serde_json::to_value(&lost).doing(Kind::Bug, || "what was lost cannot be written".into())?;
        mark::set_with(world, MARK, &note).await?;
        for table in &lost.tables {
            world.warn(format!(
                "green does not have what blue wrote to {} since the copy's moment: about {} rows",
                table.table.plain(),
                table.writes.total()
            ));
        }
        Ok(Some(note))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// What was lost in an attempt, once it was counted.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(green: &Client, attempt: i32) -> Result<Option<Lost>> {
    mark::read(green, attempt, MARK).await
}
