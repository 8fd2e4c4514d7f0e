//! Open green: let applications write there.

use super::{Adoption, Notes, Standing, Step, StepId, fence_blue::gate_state, world::World};
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use async_trait::async_trait;

/// Opens green's gate in one transaction.
///
/// # Crash
/// The row is there or not; applying again opens it. It comes after the point of no return, so it is never undone.
#[derive(Debug, Clone)]
pub struct OpenGreen;

#[async_trait]
impl Step<World> for OpenGreen {
    fn id(&self) -> StepId {
        StepId::new("switch/open-green")
    }

    fn adoption(&self) -> Adoption {
        Adoption::Refused
    }

    fn title(&self) -> String {
        "Let applications write on green".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["green: update migrate.gate set closed = false, state = 'OPEN'".into()]
    }

    fn locks(&self) -> String {
        "green: the row of the gate".into()
    }

    fn deadline(&self) -> String {
        "45 s a try, tried again for a minute: there is nothing to go back to".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let state = gate_state(&*world.client(Side::Green).await?).await?;
        Ok(if state == "OPEN" { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let mut client = world.client(Side::Green).await?;
        let tx = world.transaction(&mut client, "open green").await?;
        tx.batch_execute("set local synchronous_commit = on")
            .await
            .doing(Kind::Stopped, || "cannot open green".into())?;
        tx.execute(include_str!("../../sql/gate/open_green.sql"), &[&world.epoch])
            .await
            .doing(Kind::Stopped, || "cannot open green".into())?;
        tx.commit().await.doing(Kind::Stopped, || "cannot open green".into())?;
        Ok(None)
    }

    /// Unreachable in a runbook: the point of no return comes before.
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}
