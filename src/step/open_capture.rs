//! Open the capture: a slot of its own on blue, from which revocations are read.

use super::{Notes, Standing, Step, StepId, world::World};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::replication::ReplicationConn;
use crate::plan::{Secret, Side};
use crate::revocation::{broker::Queues, message::Context};
use async_trait::async_trait;
use std::time::Duration;

/// Creates the capture's slot, so that capture never depends on the copy.
///
/// # Crash
/// The slot is there or not; its name is the attempt's, so it is recognized. Taking back drops the slot, then the
/// queues that were filled from it.
#[derive(Debug, Clone)]
pub struct OpenCapture;

/// How long the slot may wait for open write transactions of blue's whole server.
const SLOT_DEADLINE: Duration = Duration::from_secs(60);

#[async_trait]
impl Step<World> for OpenCapture {
    fn id(&self) -> StepId {
        StepId::new("capture/open-slot")
    }

    fn title(&self) -> String {
        "Create the slot that revocations are captured from".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["blue: create_replication_slot … logical pgoutput".into()]
    }

    fn locks(&self) -> String {
        "blue: none; making the slot waits for open write transactions, and nobody waits for it".into()
    }

    fn deadline(&self) -> String {
        format!("{} s", SLOT_DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let blue = world.client(Side::Blue).await?;
        let row = blue
            .query_opt(include_str!("../../sql/capture/read_slot.sql"), &[&world.attempt.capture_slot()])
            .await
            .doing(Kind::Server, || "cannot look for the capture's slot on blue".into())?;
        let Some(row) = row else { return Ok(Standing::Absent) };
        if row.get::<_, bool>("lost") {
            return Ok(Standing::Conflict(format!(
                "slot {} on blue has lost WAL that it needs",
                world.attempt.capture_slot()
            )));
        }
        Ok(Standing::Present)
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        refuse_leftovers(world).await?;
        world.prove_lease().await?;
        let mut conn = ReplicationConn::connect(&world.blue_info, "capture slot").await?;
        let slot = world.attempt.capture_slot();
        conn.drop_slot(&slot).await?;
        let created = conn.create_slot(&slot, SLOT_DEADLINE).await?;
        Ok(Some(serde_json::json!({ "consistent_point": created.consistent_point })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        world.prove_lease().await?;
        let mut conn = ReplicationConn::connect(&world.blue_info, "capture slot").await?;
        conn.drop_slot(&world.attempt.capture_slot()).await?;
        match queues(world) {
            Some((queues, broker)) => queues.discard(broker).await,
            None => Ok(()),
        }
    }
}

fn queues(world: &World) -> Option<(Queues, &Secret)> {
    let context = Context { plan: world.plan.name.clone(), attempt: world.attempt.number };
    world.plan.broker.as_ref().map(|broker| (Queues::of(&context), &broker.url))
}

/// Nothing was captured yet, so a message in our queue is of another migration of this name: counted with ours, it
/// would keep the replay from ever adding up.
async fn refuse_leftovers(world: &World) -> Result<()> {
    let Some((queues, broker)) = queues(world) else { return Ok(()) };
    match queues.depth(broker).await {
        Ok(depth) if depth.ready + depth.parked > 0 => Err(Error::new(
            Kind::Gate,
            format!(
                "queue {} holds {} messages, and {} {}, before anything was captured",
                queues.main, depth.ready, queues.parked, depth.parked
            ),
        )
        .hint("they are of an earlier migration of this name, or of one that runs elsewhere: delete both queues, or name this plan otherwise")),
        // The queue is not there.
        Err(error) if error.kind == Kind::Request => Ok(()),
        depth => depth.map(|_| ()),
    }
}
