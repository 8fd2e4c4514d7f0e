//! Resume: let clients go on, on green.

use super::{Notes, Standing, Step, StepId, point_routes, world::World};
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use tokio::time::Instant;

/// Lets clients go on at every instance.
///
/// # Crash
/// Some instances are resumed; applying again resumes the rest.
#[derive(Debug, Clone)]
pub struct ResumeClients;

/// The name of it, for [`Notes`].
pub fn id() -> StepId {
    StepId::new("switch/resume-clients")
}

#[async_trait]
impl Step<World> for ResumeClients {
    fn id(&self) -> StepId {
        id()
    }

    fn title(&self) -> String {
        "Let clients go on, on green".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["route: RESUME".into()]
    }

    fn locks(&self) -> String {
        "none".into()
    }

    fn deadline(&self) -> String {
        "30 s a try, tried again for a minute".into()
    }

    async fn check(&self, world: &World, notes: &Notes) -> Result<Standing> {
        let begun = notes.get::<serde_json::Value>(&id()).is_some();
        let held = match &world.route {
            Some(route) => route.paused(Instant::now() + point_routes::LOOK).await?,
            None => None,
        };
        Ok(match held {
            Some(true) => Standing::Absent,
            // Where nobody can know (the operator's commands), having been through it is what counts.
            Some(false) | None if begun => Standing::Present,
            Some(false) | None => Standing::Absent,
        })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        if let Some(route) = &world.route {
            route.resume_all(Instant::now() + point_routes::WAY_BACK).await.map_err(|error| {
                Error::new(Kind::ForwardOnly, "green is open, but clients are still held at the route")
                    .hint("run `migrate cutover` again at once, or type RESUME at each PgBouncer's console")
                    .source(error)
            })?;
        }
        let held_ms = world.held_for().map(|held| u64::try_from(held.as_millis()).unwrap_or(u64::MAX));
        world.set_paused(None);
        Ok(Some(serde_json::json!({ "held_ms": held_ms })))
    }

    /// Unreachable in a runbook: the point of no return comes before.
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}
