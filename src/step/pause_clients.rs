//! Pause: hold clients at the route, at a transaction's end, so that the switch is latency and not an error to them.

use super::{
    Adoption, Notes, Standing, Step, StepId, fence_blue::gate_state, point_routes, way_back, world::World,
};
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use async_trait::async_trait;
use tokio::time::Instant;

/// Holds clients on every instance of the route, all at once.
///
/// # Crash
/// PgBouncer's PAUSE outlives the connection that gave it: whoever comes next must go on or RESUME, which is what
/// resuming and going back do.
#[derive(Debug, Clone)]
pub struct PauseClients;

/// The name of the pause, for others.
pub fn id() -> StepId {
    StepId::new("switch/pause-clients")
}

#[async_trait]
impl Step<World> for PauseClients {
    fn id(&self) -> StepId {
        id()
    }

    fn adoption(&self) -> Adoption {
        Adoption::Redo
    }

    fn title(&self) -> String {
        "Hold clients at the route".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["route: PAUSE".into()]
    }

    fn locks(&self) -> String {
        "none; clients are held at the route from here on".into()
    }

    fn deadline(&self) -> String {
        "cutover.pause_max".into()
    }

    /// Once green is open the pause has served, whether or not clients have been let go since.
    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let known = match &world.route {
            Some(route) => route.paused(Instant::now() + point_routes::LOOK).await?,
            None => None,
        };
        // Where nobody can know, we believe what this process did.
        let held = known.unwrap_or_else(|| world.held_for().is_some());
        if held || gate_state(&*world.client(Side::Green).await?).await? == "OPEN" {
            return Ok(Standing::Present);
        }
        Ok(Standing::Absent)
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.prove_lease().await?;
        // Blue alone must be able to let clients go again.
        way_back::remember(world).await?;
        world.set_paused(Some(std::time::Instant::now()));
        if let Some(route) = &world.route {
            route.pause_all(Instant::now() + world.pause_budget("hold clients")?).await?;
        }
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        world.prove_lease().await?;
        if let Some(route) = &world.route {
            route.resume_all(Instant::now() + point_routes::WAY_BACK).await?;
        }
        world.set_paused(None);
        let mut blue = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut blue, "forget the way back").await?;
        way_back::forget(&tx).await?;
        tx.commit().await.doing(Kind::Server, || "cannot forget the way back".into())
    }
}
