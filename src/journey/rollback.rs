//! `rollback`: back to blue, losing nothing, before the point of no return.

use super::{handover::RequestKind, session::Session};
use crate::engine::{pin, state};
use crate::error::Result;
use crate::event::Event;
use crate::plan::Side;
use crate::runbook::PhaseName;

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The cutover alone: blue is as before, green goes on following.
    Cutover,
    /// Everything: nothing of ours is left on either side.
    All,
}

/// What a session for this is opened with.
pub const REQUEST: RequestKind = RequestKind::Rollback;

/// Takes back the cutover's effects, and with [`Extent::All`] the copy and everything else of ours.
///
/// # Errors
/// [`crate::error::Kind::ForwardOnly`] when green may have been opened; nothing is undone then.
///
/// # Crash
/// Run it again: each step's undo is journaled as its doing is. Our schema on green goes last but one, blue's last.
pub async fn run(session: &Session, extent: Extent) -> Result<()> {
    let world = &session.world;
    let mut engine = session.engine().await?;
    let mut phases = vec![PhaseName::Switch, PhaseName::Arm];
    if extent == Extent::All {
        phases.extend([PhaseName::Replicate, PhaseName::Prepare]);
    }
    for name in phases {
        world.ears.tell(Event::Phase { name: format!("back: {}", name.as_str()) });
        engine.back(session.runbook.phase(name)).await?;
    }
    if extent == Extent::All {
        pin::end(&*world.client(Side::Green).await?, world.attempt.number).await?;
        for side in [Side::Green, Side::Blue] {
            world.prove_lease_on(side).await?;
            state::drop(&*world.client(side).await?, side).await?;
        }
    }
    Ok(())
}
