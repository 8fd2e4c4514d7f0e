//! `finish`: removes what is ours and restores what we changed, but leaves blue fenced.

use super::{
    report::{self, Report},
    session::Session,
};
use crate::engine::state;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{name::Ident, replication::ReplicationConn};
use crate::plan::Side;
use crate::revocation::{broker::Queues, message::Context};
use crate::runbook::PhaseName;

/// Removes our slots, publications and queue, green's gate and our schema on green; returns the report, which cannot be
/// asked for any more after that.
///
/// Blue keeps its closed gate: whoever still writes there must be refused, not lost.
///
/// # Errors
/// [`Kind::Request`] when the cutover is not through; [`Kind::Gate`] when revocations are parked.
///
/// # Crash
/// Run it again. Green's schema, with the journal, goes last.
pub async fn run(session: &Session) -> Result<Report> {
    let world = &session.world;
    let engine = session.engine().await?;
    for name in [PhaseName::Switch, PhaseName::Settle] {
        if !engine.record().is_done(session.runbook.phase(name)) {
            return Err(Error::new(Kind::Request, "the cutover is not through, so there is nothing to finish")
                .hint("`migrate cutover` goes on; `migrate rollback --all` removes everything and goes back to blue"));
        }
    }
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
    drop_slots(session).await?;
    drop_publications(session).await?;
    if let Some(broker) = world.plan.broker.as_ref().filter(|_| !world.plan.revocations.is_empty()) {
        let context = Context { plan: world.plan.name.clone(), attempt: world.attempt.number };
        Queues::of(&context).delete(&broker.url).await?;
    }
    drop_greens_gate(session).await?;
    world.prove_lease().await?;
    state::drop(&*world.client(Side::Green).await?, Side::Green).await?;
    Ok(report)
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
    let gate = ArmGate { side: Side::Green, tables: session.world.gate_tables.clone() };
    gate.undo(&session.world, &Notes::default()).await
}
