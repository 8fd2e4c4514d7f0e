//! Declare on blue that green may be open: the point of no return.

use super::{
    Adoption, Notes, Reversal, Standing, Step, StepId, fence_blue::gate_state, newcomers, world::World,
};
use crate::engine::failpoint;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Side;
use async_trait::async_trait;

/// Commits `OPENING` on blue.
///
/// Written on blue and not only in the journal, so that one row decides between an old process that would open green
/// and a new one that goes back: going back takes a higher epoch on blue first, after which this cannot commit.
///
/// # Crash
/// The row is there or not; `check` looks.
#[derive(Debug, Clone)]
pub struct DeclareOpening;

#[async_trait]
impl Step<World> for DeclareOpening {
    fn id(&self) -> StepId {
        StepId::new("switch/declare-opening")
    }

    fn adoption(&self) -> Adoption {
        Adoption::Refused
    }

    fn title(&self) -> String {
        "Write on blue that green may be open: no way back after this".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["blue: update migrate.gate set state = 'OPENING'".into()]
    }

    fn locks(&self) -> String {
        "blue: the row of the gate".into()
    }

    fn deadline(&self) -> String {
        "what is left of cutover.pause_max".into()
    }

    fn reversal(&self) -> Reversal {
        Reversal::PointOfNoReturn
    }

    /// Looks with a lock on the row: a COMMIT of ours whose connection broke may still be on its way, and a look that
    /// does not wait for it would say that there is a way back.
    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "look whether green may be open").await?;
        tx.execute("select from migrate.gate for share", &[])
            .await
            .doing(Kind::Stopped, || "cannot look whether green may be open".into())?;
        let state = gate_state(&tx).await?;
        Ok(if state == "OPENING" { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.pause_budget("open green")?;
        failpoint::hit("opening:before");
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "declare the opening").await?;
        // The gate is on the tables that were there when it closed: a session that does not come through the route may
        // have made another one since, and written to it.
        newcomers::refuse(&newcomers::look(world, &tx).await?)?;
        let declared = tx
            .execute(include_str!("../../sql/gate/declare_opening.sql"), &[&world.epoch])
            .await
            .doing(Kind::Stopped, || "cannot declare the opening on blue".into())?;
        if declared != 1 {
            return Err(Error::new(Kind::Stopped, "blue is not fenced, so green must not be opened")
                .hint("somebody opened blue's gate; `migrate rollback`, then `migrate cutover` again"));
        }
        tx.commit().await.doing(Kind::Stopped, || "cannot declare the opening on blue".into())?;
        Ok(None)
    }

    /// Only ever called when `check` saw that the row is not there.
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}
