//! `finish`: removes what is ours and restores what we changed, but leaves blue fenced.

use super::{
    compat,
    report::{self, Report},
    session::{self, Brief, Session},
};
use crate::engine::{Record, journal, state};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{name::Ident, replication::ReplicationConn};
use crate::plan::Side;
use crate::revocation::{broker::Queues, message::Context};
use crate::runbook::{PhaseName, Runbook, blue_green};
use crate::step::{attempt::Attempt, make_stage};

/// Removes the views for old clients, our slots, publications and queue, green's gate and our schema on green; returns the report, which cannot be
/// asked for any more after that.
///
/// Blue keeps its closed gate: whoever still writes there must be refused, not lost.
///
/// # Errors
/// [`Kind::Request`] when the cutover is not through; [`Kind::Gate`] when revocations are parked; as [`compat::drop`].
///
/// # Crash
/// Run it again. Green's schema, with the journal, goes last.
pub async fn run(session: &Session) -> Result<Report> {
    let world = &session.world;
    refuse_unless_through(&session.runbook, session.engine().await?.record())?;
    let report = {
        let (blue, green) = (world.client(Side::Blue).await?, world.client(Side::Green).await?);
        report::read(&green, Some(&blue), &world.plan, &session.pin).await?
    };
    if report.revocations.as_ref().is_some_and(|revocations| revocations.parked > 0) {
        return Err(Error::new(
            Kind::Gate,
            "revocations are parked: somebody may still have access they lost",
        )
        .hint(
            "look at migrate.revocation_parked on green, apply what it says, delete the rows, then finish",
        ));
    }
    // First, since it may be refused: then everything is as before.
    drop_views(session).await?;
    drop_slots(session).await?;
    drop_publications(session).await?;
    if let Some(broker) = world.plan.broker.as_ref().filter(|_| !world.plan.revocations.is_empty()) {
        let context = Context { plan: world.plan.name.clone(), attempt: world.attempt.number };
        Queues::of(&context).delete(&broker.url).await?;
    }
    drop_greens_gate(session).await?;
    make_stage::drop_all(&*world.client(Side::Green).await?, world.epoch).await?;
    world.prove_lease().await?;
    state::drop(&*world.client(Side::Green).await?, Side::Green).await?;
    Ok(report)
}

/// Whether there is anything to finish, told before the operator is asked. Reads green only, and needs no lease.
///
/// # Errors
/// [`Kind::Request`] when nothing has begun, or the cutover is not through.
pub async fn look_first(brief: &Brief) -> Result<()> {
    let plan = &brief.plan;
    let (_, green_info) = session::connections(plan)?;
    let green = session::reach(Side::Green, &green_info, "finish").await?;
    let pin = session::begun(&green, plan).await?.ok_or_else(|| session::nothing_begun(plan))?;
    let attempt = Attempt::new(&plan.name, pin.attempt);
    let runbook = blue_green::build(plan, &pin.blue_facts, &attempt, brief.sql());
    let record = Record::replay(&journal::read(&green, pin.attempt).await?)?;
    refuse_unless_through(&runbook, &record)
}

fn refuse_unless_through(runbook: &Runbook, record: &Record) -> Result<()> {
    let phases = [PhaseName::Switch, PhaseName::Settle];
    if phases.into_iter().all(|name| record.is_done(runbook.phase(name))) {
        return Ok(());
    }
    Err(Error::new(Kind::Request, "the cutover is not through, so there is nothing to finish")
        .hint("`migrate cutover` goes on; `migrate rollback --all` removes everything and goes back to blue"))
}

async fn drop_views(session: &Session) -> Result<()> {
    let world = &session.world;
    world.prove_lease().await?;
    let mut green = world.client(Side::Green).await?;
    compat::drop(&mut green, &world.plan, world.epoch).await
}

async fn drop_slots(session: &Session) -> Result<()> {
    let world = &session.world;
    world.prove_lease().await?;
    let mut conn = ReplicationConn::connect(&world.blue_info, "finish").await?;
    conn.drop_slot(&world.attempt.slot()).await?;
    conn.drop_slot(&world.attempt.capture_slot()).await
}

async fn drop_publications(session: &Session) -> Result<()> {
    let world = &session.world;
    let mut client = world.client(Side::Blue).await?;
    let tx = world.transaction(&mut client, "drop our publications").await?;
    for publication in [world.attempt.publication(), world.attempt.capture_publication()] {
        tx.batch_execute(&format!("drop publication if exists {}", Ident::new(publication)))
            .await
            .doing(Kind::Server, || "cannot drop our publications on blue".into())?;
    }
    tx.commit().await.doing(Kind::Server, || "cannot drop our publications on blue".into())
}

async fn drop_greens_gate(session: &Session) -> Result<()> {
    use crate::step::{Notes, Step, arm_gate::ArmGate};
    let gate = ArmGate { side: Side::Green, tables: session.world.green_gate_tables.clone() };
    gate.undo(&session.world, &Notes::default()).await
}
