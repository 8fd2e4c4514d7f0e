//! `replicate`: prepare green, copy, then follow until stopped or asked to step aside.

use super::{gates, handover, session::Session};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::plan::Side;
use crate::runbook::PhaseName;
use std::time::Duration;
use tokio::sync::watch;

/// When `replicate` ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It is stopped, or asked to step aside.
    Stopped,
    /// Green has everything that blue had when the copy ended, and is within the lag gate; for scripts and CI.
    CaughtUp,
}

/// Why following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The operator stopped it.
    Stopped,
    /// Another command asked for it.
    SteppedAside {
        /// Which.
        command: String,
    },
    /// Green has caught up.
    CaughtUp,
}

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs `replicate` to its end. `stop` turns true when the operator wants it to stop.
///
/// # Crash
/// The journal says how far the phases came; green's progress row says where following goes on.
pub async fn run(session: &Session, until: Until, mut stop: watch::Receiver<bool>) -> Result<Ended> {
    let world = &session.world;
    let phases = async {
        let mut engine = session.engine().await?;
        if engine.record().any_begun(session.runbook.phase(PhaseName::Switch)) {
            return Err(Error::new(Kind::Request, "a cutover has begun on this migration")
                .hint("go on with `migrate cutover`, or back with `migrate rollback`"));
        }
        for name in [PhaseName::Prepare, PhaseName::Replicate] {
            world.ears.tell(Event::Phase { name: name.as_str().into() });
            engine.forward(session.runbook.phase(name)).await?;
        }
        Ok(())
    };
    tokio::select! {
        done = phases => done?,
        error = session.lost() => return Err(error),
        _ = stop.wait_for(|stop| *stop) => {
            return Err(Error::new(Kind::Stopped, "stopped before the copy was complete")
                .hint("run `migrate replicate` again: what is done stays; a copy that was cut starts over"));
        }
    }

    world.ears.tell(Event::Phase { name: "follow".into() });
    world.start_following().await?;
    world.start_capturing().await?;
    let ended = follow(session, until, stop).await;
    // Stopped in both cases: at a batch boundary, so that green's progress row is all there is to know.
    let (followed, captured) = (world.stop_following().await, world.stop_capturing().await);
    let ended = ended?;
    followed.and(captured)?;
    if let Ended::SteppedAside { .. } = ended {
        handover::answer(&*world.client(Side::Green).await?).await?;
    }
    Ok(ended)
}

async fn follow(session: &Session, until: Until, mut stop: watch::Receiver<bool>) -> Result<Ended> {
    let world = &session.world;
    let mut goal = None;
    if until == Until::CaughtUp {
        goal = Some(gates::current_lsn(world).await?);
    }
    loop {
        tokio::select! {
            _ = tokio::time::sleep(LOOK_EVERY) => {}
            error = session.lost() => return Err(error),
            _ = stop.wait_for(|stop| *stop) => return Ok(Ended::Stopped),
        }
        world.followers_health().await?;
        let asked = handover::asked(&*world.client(Side::Green).await?, world.epoch).await?;
        if let Some(command) = asked {
            return Ok(Ended::SteppedAside { command });
        }
        if let Some(goal) = goal {
            let follower = world.follower.lock().await;
            let status = follower.as_ref().map(|follower| follower.status().borrow().clone());
            if status.is_some_and(|status| {
                status.durable >= goal && status.lag_bytes <= gates::lag_max_bytes(&world.plan)
            }) {
                return Ok(Ended::CaughtUp);
            }
        }
    }
}
