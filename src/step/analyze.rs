//! Analyze green: without statistics its first minutes look like an outage.

use super::{Notes, Standing, Step, StepId, arm_gate, mark, world::World};
use crate::error::Result;
use crate::plan::Side;
use async_trait::async_trait;

/// Fills materialized views, and gives the planner its statistics.
///
/// # Crash
/// Doing it again does all of it again, which is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Analyze {
    /// Once the rows are there, of the tables that were copied.
    Copied,
    /// Once the vendor's SQL has run, of whatever it has left.
    AfterVendor,
}

impl Analyze {
    fn mark(self) -> &'static str {
        match self {
            Analyze::Copied => "analyzed",
            Analyze::AfterVendor => "analyzed after the vendor's SQL",
        }
    }
}

#[async_trait]
impl Step<World> for Analyze {
    fn id(&self) -> StepId {
        StepId::new(match self {
            Analyze::Copied => "replicate/analyze",
            Analyze::AfterVendor => "replicate/analyze-again",
        })
    }

    fn title(&self) -> String {
        "Fill materialized views and analyze green's tables".into()
    }

    fn locks(&self) -> String {
        "green: SHARE UPDATE EXCLUSIVE on one table after the other, ACCESS EXCLUSIVE on a materialized view while it is filled; nobody uses green yet".into()
    }

    fn deadline(&self) -> String {
        "a lock is waited for 10 min at most".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, self.mark()).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        crate::copy::views::refresh(&world.blue_info, &world.green_info, world.epoch, &world.ears).await?;
        // Parents too: autovacuum never analyzes a partitioned table.
        let tables = match self {
            Analyze::Copied => world.green_gate_tables.clone(),
            // Those and no others have the gate: what was dropped has not, and what was made has.
            Analyze::AfterVendor => arm_gate::list_armed(&*world.client(Side::Green).await?).await?,
        };
        crate::copy::analyze::analyze(&world.green_info, &tables, world.epoch, &world.ears).await?;
        mark::set(world, self.mark()).await?;
        Ok(None)
    }

    /// Statistics do no harm.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, self.mark()).await
    }
}
