//! Replay: the second proof that no revoked token lives on green.

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::error::Result;
use async_trait::async_trait;

/// Publishes what was captured up to the fence and its END, replays the queue into green, and asks each rule's `valid`
/// query whether anything revoked still is valid.
///
/// In `stream` mode green had every revocation before it opened, so this confirms rather than acts.
///
/// # Crash
/// Every message is applied in one transaction with its ledger row and acknowledged after; doing it again finds what
/// is left.
#[derive(Debug, Clone)]
pub struct ReplayRevocations;

const MARK: &str = "revocations replayed";

#[async_trait]
impl Step<World> for ReplayRevocations {
    fn id(&self) -> StepId {
        StepId::new("settle/replay-revocations")
    }

    fn title(&self) -> String {
        "Replay captured revocations into green, to END, and prove that none is still valid".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["green: each rule's `valid` query must find nothing".into()]
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, notes: &Notes) -> Result<Option<serde_json::Value>> {
        let done = serde_json::json!(notes.get::<u8>(&self.id()));
        mark::set(world, MARK).await?;
        Ok(Some(done))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}
