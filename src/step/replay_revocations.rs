//! Replay: the second proof that no revoked token lives on green; in `mode: snapshot`, the only one.

use super::{Notes, Standing, Step, StepId, fence_blue, mark, take_moment, world::World};
use crate::error::{Error, Kind, Result};
use crate::plan::Side;
use crate::revocation::{self, Carried, EffectSession, Extent, ReplayEnd, ReplaySpec};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Publishes what was captured up to the fence and its END, replays the queue into green, and asks each rule's `valid`
/// query whether anything revoked still is valid.
///
/// # Crash
/// Every message is applied in one transaction with its ledger row and acknowledged after; doing it again finds what
/// is left. What took effect stays when this is taken back: it was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayRevocations {
    /// `mode: snapshot`: inside the pause, before green is opened. What was queued before the pause is done already.
    BeforeOpening,
    /// While clients are served. In `stream` mode green had every revocation before it opened, so this confirms rather than
    /// acts; in `mode: snapshot` it finds everything done.
    OnceServed,
}

/// For publishing what is left, and for working the queue off: clients are served meanwhile.
const DEADLINE: Duration = Duration::from_secs(600);

impl ReplayRevocations {
    /// Whoever lost access must not have it on green. Says how many revocations were looked at: before the opening, those
    /// that [`work_off_backlog`] has not.
    async fn refuse_still_valid(self, world: &World) -> Result<u64> {
        let blue = world.client(Side::Blue).await?;
        let green = world.client(Side::Green).await?;
        let (attempt, rules) = (world.attempt.number, &world.plan.revocations);
        let earlier = match self {
            ReplayRevocations::BeforeOpening => world.looked_early(),
            ReplayRevocations::OnceServed => None,
        };
        let found = match earlier {
            Some(earlier) => revocation::still_valid_since(&earlier, &green, &blue, attempt, rules).await?,
            None => revocation::still_valid(&green, Some(&blue), attempt, rules).await?,
        };
        let named: Vec<String> = found
            .iter()
            .filter(|found| found.count > 0)
            .map(|found| format!("{} by rule {}", found.count, found.rule))
            .collect();
        if named.is_empty() {
            return Ok(found.iter().map(|found| found.looked_at).sum());
        }
        Err(Error::new(Kind::Gate, format!("revoked keys are still valid on green: {}", named.join(", ")))
            .hint("revoke them on green by hand at once; migrate.revocation on green holds their keys"))
    }

    fn mark(self) -> &'static str {
        match self {
            ReplayRevocations::BeforeOpening => "revocations replayed before the opening",
            ReplayRevocations::OnceServed => "revocations replayed",
        }
    }
}

#[async_trait]
impl Step<World> for ReplayRevocations {
    fn id(&self) -> StepId {
        StepId::new(match self {
            ReplayRevocations::BeforeOpening => "switch/replay-revocations",
            ReplayRevocations::OnceServed => "settle/replay-revocations",
        })
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
        match self {
            ReplayRevocations::BeforeOpening => "what is left of cutover.pause_max".into(),
            ReplayRevocations::OnceServed => format!("{} s", DEADLINE.as_secs()),
        }
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, self.mark()).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let deadline = Instant::now()
            + match self {
                ReplayRevocations::BeforeOpening => {
                    world.pause_budget("make revocations effective on green")?
                }
                ReplayRevocations::OnceServed => DEADLINE,
            };
        let fenced_at = fence_blue::fenced_at(&*world.client(Side::Blue).await?).await?;
        {
            let capture = world.capture.lock().await;
            let capture = capture.as_ref().ok_or_else(|| Error::new(Kind::Bug, "no capture runs"))?;
            capture.finish_at(fenced_at, deadline).await?;
        }
        let carried = match world.plan.is_snapshot() {
            true => Carried::Copy { consistent_point: moment(world).await? },
            // The drain inside the fence made green have everything up to there; what is sent outlives its sender.
            false => Carried::Stream { applied: watch::channel(fenced_at).1 },
        };
        let (session, extent) = match self {
            ReplayRevocations::BeforeOpening => (EffectSession::ThroughTheGate, Extent::Books),
            ReplayRevocations::OnceServed => (EffectSession::Ordinary, Extent::Whole),
        };
        let ended = replay(world, session, extent, carried, deadline).await?;
        let looked_at = self.refuse_still_valid(world).await?;
        mark::set(world, self.mark()).await?;
        Ok(Some(serde_json::json!({
            "replayed": ended.replayed,
            "already_effective": ended.already_effective,
            "proved": looked_at,
        })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, self.mark()).await
    }
}

/// Makes effective on green, while clients go on, what is in the queue by now, and looks whether anything of it is still valid:
/// the less is left for the pause.
///
/// # Errors
/// [`Kind::Deadline`] when that does not come to an end in time; as [`revocation::replay`].
pub async fn work_off_backlog(world: &World, within: Duration) -> Result<()> {
    let carried = Carried::Copy { consistent_point: moment(world).await? };
    let deadline = Instant::now() + within;
    replay(world, EffectSession::ThroughTheGate, Extent::Backlog, carried, deadline).await?;
    let look = async {
        let green = world.client(Side::Green).await?;
        revocation::look_early(&green, world.attempt.number, &world.plan.revocations).await
    };
    let look = tokio::time::timeout_at(deadline, look).await.map_err(|_| {
        Error::new(Kind::Deadline, "green does not say in time whether revoked keys are still valid there")
            .hint("an index for each rule's `valid` query on green makes it fast")
    })??;
    world.note(format!("{} revocations are proved on green before clients are held", look.looked_at));
    world.set_looked_early(look);
    Ok(())
}

async fn moment(world: &World) -> Result<crate::pg::lsn::Lsn> {
    let moment = take_moment::read(&*world.client(Side::Green).await?, world.attempt.number).await?;
    let moment =
        moment.ok_or_else(|| Error::new(Kind::Bug, "green does not know of which moment its copy is"))?;
    Ok(moment.lsn)
}

async fn replay(
    world: &World,
    session: EffectSession,
    extent: Extent,
    carried: Carried,
    deadline: Instant,
) -> Result<ReplayEnd> {
    let captured =
        world.capture_spec()?.ok_or_else(|| Error::new(Kind::Bug, "the plan has no revocation rules"))?;
    let spec = ReplaySpec {
        blue: captured.blue,
        green: captured.green,
        broker: captured.broker,
        seal: captured.seal,
        plan: captured.plan,
        attempt: captured.attempt,
        epoch: captured.epoch,
        rules: captured.rules,
        session,
        extent,
        carried,
    };
    revocation::replay(spec, deadline, world.ears.clone()).await
}
