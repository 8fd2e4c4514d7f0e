//! Replay: the second proof that no revoked token lives on green.

use super::{Notes, Standing, Step, StepId, fence_blue, mark, world::World};
use crate::error::{Error, Kind, Result};
use crate::plan::Side;
use crate::revocation::{self, Carried, EffectSession, ReplaySpec};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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

/// For publishing what is left, and for working the queue off: clients are served meanwhile.
const DEADLINE: Duration = Duration::from_secs(600);

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

    fn locks(&self) -> String {
        "green: the rows that revocations name".into()
    }

    fn deadline(&self) -> String {
        format!("{} s", DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let Some(captured) = world.capture_spec()? else { return Ok(None) };
        let fenced_at = fence_blue::fenced_at(&*world.client(Side::Blue).await?).await?;
        let deadline = Instant::now() + DEADLINE;
        {
            let capture = world.capture.lock().await;
            let capture = capture.as_ref().ok_or_else(|| Error::new(Kind::Bug, "no capture runs"))?;
            capture.finish_at(fenced_at, deadline).await?;
        }
        // The drain inside the fence made green have everything up to there; the sender must outlive the replay.
        let (_drained, applied) = watch::channel(fenced_at);
        let spec = ReplaySpec {
            blue: captured.blue,
            green: captured.green,
            broker: captured.broker,
            seal: captured.seal,
            plan: captured.plan,
            attempt: captured.attempt,
            epoch: captured.epoch,
            rules: captured.rules,
            session: EffectSession::Ordinary,
            carried: Carried::Stream { applied },
        };
        let ended = revocation::replay(spec, deadline, world.ears.clone()).await?;
        refuse_still_valid(world).await?;
        mark::set(world, MARK).await?;
        Ok(Some(serde_json::json!({
            "replayed": ended.replayed,
            "already_effective": ended.already_effective,
        })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// Whoever lost access must not have it on green.
async fn refuse_still_valid(world: &World) -> Result<()> {
    let blue = world.client(Side::Blue).await?;
    let green = world.client(Side::Green).await?;
    let rules = &world.plan.revocations;
    let found = revocation::still_valid(&green, Some(&blue), world.attempt.number, rules).await?;
    let named: Vec<String> = found
        .iter()
        .filter(|found| found.count > 0)
        .map(|found| format!("{} by rule {}", found.count, found.rule))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Gate, format!("revoked keys are still valid on green: {}", named.join(", ")))
        .hint("revoke them on green by hand at once; migrate.revocation on green holds their keys"))
}
