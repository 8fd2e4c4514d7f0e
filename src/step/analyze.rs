//! Analyze green: without statistics its first minutes look like an outage.

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::error::Result;
use async_trait::async_trait;

/// Fills materialized views, and gives the planner its statistics.
///
/// # Crash
/// Doing it again does all of it again, which is harmless.
#[derive(Debug, Clone)]
pub struct Analyze;

const MARK: &str = "analyzed";

#[async_trait]
impl Step<World> for Analyze {
    fn id(&self) -> StepId {
        StepId::new("replicate/analyze")
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
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        crate::copy::views::refresh(&world.blue_info, &world.green_info, world.epoch, &world.ears).await?;
        // Parents too: autovacuum never analyzes a partitioned table.
        crate::copy::analyze::analyze(&world.green_info, &world.green_gate_tables, world.epoch, &world.ears)
            .await?;
        mark::set(world, MARK).await?;
        Ok(None)
    }

    /// Statistics do no harm.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}
