//! Point the route to green, while clients are held and green is still closed.

use super::{Adoption, Notes, Standing, Step, StepId, way_back, world::World};
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use crate::route::{Pointing, Proof};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;

/// Gives every instance green's address, and proves that a query through it lands on green.
///
/// # Crash
/// Where clients were sent before is on blue since before the pause.
#[derive(Debug, Clone)]
pub struct PointRoutes;

/// Going back must not be cut short by the budget that made us go back.
pub(super) const WAY_BACK: Duration = Duration::from_secs(30);
/// For looking at the route.
pub(super) const LOOK: Duration = Duration::from_secs(10);

#[async_trait]
impl Step<World> for PointRoutes {
    fn id(&self) -> StepId {
        StepId::new("switch/point-routes")
    }

    fn adoption(&self) -> Adoption {
        Adoption::Redo
    }

    fn title(&self) -> String {
        "Send held clients to green".into()
    }

    fn shows(&self) -> Vec<String> {
        vec![
            "route: set green's host, port and dbname; RELOAD; prove it by a query through a twin entry"
                .into(),
        ]
    }

    fn locks(&self) -> String {
        "none".into()
    }

    fn deadline(&self) -> String {
        "what is left of cutover.pause_max".into()
    }

    async fn check(&self, world: &World, notes: &Notes) -> Result<Standing> {
        let Some(route) = &world.route else {
            // No route to move: the operator moves clients, and nothing has to be seen.
            let begun = notes.get::<serde_json::Value>(&self.id()).is_some();
            return Ok(if begun { Standing::Present } else { Standing::Absent });
        };
        Ok(match route.pointing_at(Instant::now() + LOOK).await? {
            Pointing::Green => Standing::Present,
            // Some of several: applying again, or undoing, heals it.
            Pointing::Elsewhere | Pointing::Mixed { .. } => Standing::Absent,
        })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let Some(route) = &world.route else { return Ok(Some(serde_json::json!("no route"))) };
        world.prove_lease().await?;
        let until = Instant::now() + world.pause_budget("send clients to green")?;
        route.switch_to_green(until).await?;
        route.prove_green(&self.proof(world).await?, until).await?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let Some(route) = &world.route else { return Ok(()) };
        world.prove_lease().await?;
        // Nothing there: blue was taken back without green, and clients are where they were.
        let Some(before) = way_back::read(&*world.client(Side::Blue).await?).await? else { return Ok(()) };
        route.switch_to_blue(&before, Instant::now() + WAY_BACK).await
    }
}

impl PointRoutes {
    async fn proof(&self, world: &World) -> Result<Proof> {
        let green = world.client(Side::Green).await?;
        let nonce: String = green
            .query_one("select nonce from migrate.identity", &[])
            .await
            .doing(Kind::Server, || "cannot read green's identity".into())?
            .get(0);
        Ok(Proof {
            login: world.green_info.clone(),
            query: "select nonce from migrate.identity".into(),
            expect: nonce,
        })
    }
}
