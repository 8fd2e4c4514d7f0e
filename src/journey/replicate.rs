//! `replicate`: prepare green, copy, then follow until stopped or asked to step aside.

use super::{gates, handover, session::Session};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::plan::Side;
use crate::runbook::PhaseName;
use crate::step::newcomers::{self, Newcomer};
use crate::step::world::World;
use std::collections::HashSet;
use std::time::{Duration, Instant};
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
/// How often blue is asked for tables that the copy does not carry.
const LOOK_FOR_NEWCOMERS_EVERY: Duration = Duration::from_secs(5);
/// How long blue may take to answer that.
const NEWCOMERS_DEADLINE: Duration = Duration::from_secs(5);
/// How often the keys changed last are written down, for whoever follows after a `kill -9` of ours.
const KEEP_KEYS_EVERY: Duration = Duration::from_secs(10);

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
                .hint("run `migrate replicate` again: what is done stays, tables that are whole among it"));
        }
    }

    world.ears.tell(Event::Phase { name: "follow".into() });
    loop {
        world.start_following().await?;
        world.start_capturing().await?;
        let ended = follow(session, until, stop.clone()).await;
        // Stopped in any case: at a batch boundary, so that green's progress row is all there is to know.
        let (followed, captured) = (world.stop_following().await, world.stop_capturing().await);
        let ended = ended?;
        if let Ended::SteppedAside { command } = &ended {
            // A batch may have taken long to end, and the asker may have been interrupted meanwhile.
            if !handover::answer(&*world.client(Side::Green).await?, world.epoch).await? {
                // Unless it lost its patience and took over.
                world.prove_lease_on(Side::Green).await?;
                world.note(format!("`migrate {command}` does not wait for us any more: following again"));
                continue;
            }
        }
        followed.and(captured)?;
        return Ok(ended);
    }
}

async fn follow(session: &Session, until: Until, mut stop: watch::Receiver<bool>) -> Result<Ended> {
    let world = &session.world;
    let mut newcomers = Watch::default();
    let mut kept = Instant::now();
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
        newcomers.look(world).await;
        if kept.elapsed() >= KEEP_KEYS_EVERY {
            world.keep_last_keys().await;
            kept = Instant::now();
        }
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

/// Names what comes to blue while we follow, each once.
#[derive(Default)]
struct Watch {
    looked: Option<Instant>,
    told: HashSet<Newcomer>,
}

impl Watch {
    /// Looks when it is time to. A blue that does not answer is the follower's matter, not ours.
    async fn look(&mut self, world: &World) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_FOR_NEWCOMERS_EVERY) {
            return;
        }
        let found = tokio::time::timeout(NEWCOMERS_DEADLINE, async {
            newcomers::look(world, &*world.client(Side::Blue).await?).await
        });
        match found.await {
            Ok(Ok(found)) => {
                for newcomer in found {
                    if self.told.insert(newcomer.clone()) {
                        world.ears.tell(Event::Warning { text: warning(&newcomer) });
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot look for new tables on blue"),
            Err(_) => tracing::debug!("blue does not say in time whether it has new tables"),
        }
        self.looked = Some(Instant::now());
    }
}

fn warning(newcomer: &Newcomer) -> String {
    if newcomer.loses_data() {
        return format!(
            "on blue, {newcomer}: green does not get it, and `migrate cutover` will refuse; {}",
            newcomers::WAY_OUT
        );
    }
    format!("on blue, {newcomer}: green does not get it; create it there too, or begin again")
}
