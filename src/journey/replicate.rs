//! `replicate`: prepare green, copy, then follow until stopped or asked to step aside.

use super::{
    gates, handover,
    lookout::Lookout,
    session::{Brief, Session, Wish},
    throttle,
};
use crate::copy::ledger;
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::{
    lsn::Lsn,
    trouble::{self, Patience},
};
use crate::plan::Side;
use crate::runbook::PhaseName;
use crate::step::world::World;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// When `replicate` ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It is stopped, or asked to step aside.
    Stopped,
    /// Green has everything that blue had when the copy ended, and is within the lag gate; in `mode: snapshot`, every
    /// revocation until then is captured. For scripts and CI.
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
    /// `mode: snapshot` without revocation rules: there is nothing left to carry.
    Copied,
}

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the keys changed last are written down, for whoever follows after a `kill -9` of ours.
const KEEP_KEYS_EVERY: Duration = Duration::from_secs(10);

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The plan with its files.
    pub brief: Brief,
    /// Where the plan's throttle is read again from while rows are copied.
    pub plan_file: PathBuf,
    /// When it ends by itself.
    pub until: Until,
}

/// Runs `replicate` to its end. `stop` turns true when the operator wants it to stop.
///
/// When a server restarts or a connection drops before green follows, it begins again by itself under a new lease, which
/// ends what the old one left at work, and goes on with what is not whole: each time after a longer pause, and no more
/// often than [`Patience`] has it without another table or range becoming whole. What no new connection can heal ends it at
/// once. The follower heals its own connections.
///
/// # Crash
/// The journal says how far the phases came; green's progress row says where following goes on.
pub async fn run(request: &Request, mut stop: watch::Receiver<bool>, ears: Ears) -> Result<Ended> {
    let (mut patience, mut whole) = (Patience::default(), 0);
    let mut wish = Wish::Begin;
    loop {
        let error = match run_once(request, wish, &mut whole, &mut patience, stop.clone(), ears.clone()).await
        {
            Ok(ended) => return Ok(ended),
            // The first time nothing says that the servers were ever to be reached.
            Err(Failed::ToOpen(error)) if wish == Wish::Begin || !trouble::lost_a_server(&error) => {
                return Err(error);
            }
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::ToOpen(error) | Failed::BeforeFollowing(error)) => error,
        };
        wish = Wish::GoOn;
        let Some(wait) = patience.next_wait() else { return Err(error) };
        ears.tell(Event::Warning {
            text: format!(
                "the copy is interrupted, and goes on in {:.1} s with what is not whole: {}",
                wait.as_secs_f64(),
                error.chain().join(": ")
            ),
        });
        let _ = tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await;
        if *stop.borrow() {
            return Err(stopped_early());
        }
    }
}

/// How a try failed.
enum Failed {
    /// No session could be opened.
    ToOpen(Error),
    /// Trying again may heal it.
    BeforeFollowing(Error),
    /// It does not pass, or is of the follower.
    ForGood(Error),
}

/// One session: the phases before following, and following.
async fn run_once(
    request: &Request,
    wish: Wish,
    whole: &mut u64,
    patience: &mut Patience,
    mut stop: watch::Receiver<bool>,
    ears: Ears,
) -> Result<Ended, Failed> {
    let session = Session::open(request.brief.clone(), wish, ears).await.map_err(Failed::ToOpen)?;
    let prepared = tokio::select! {
        prepared = prepare(&session, whole, patience) => prepared,
        error = session.lost() => Err(error),
        () = throttle::read_again(&session, &request.plan_file) => Ok(()),
        _ = stop.wait_for(|stop| *stop) => Err(stopped_early()),
    };
    if let Err(error) = prepared {
        let fell_silent = error.kind == Kind::Lease && session.fell_silent();
        let may_pass = fell_silent || trouble::lost_a_server(&error);
        return session.close(Err(error)).await.map_err(|error| match error.kind {
            // Somebody else has taken over.
            Kind::Lease if !fell_silent => Failed::ForGood(error),
            _ if may_pass => Failed::BeforeFollowing(error),
            _ => Failed::ForGood(error),
        });
    }
    let ended = keep_following(&session, request.until, stop).await;
    session.close(ended).await.map_err(Failed::ForGood)
}

fn stopped_early() -> Error {
    Error::new(Kind::Stopped, "stopped before the copy was complete")
        .hint("run `migrate replicate` again: what is done stays, tables that are whole among it")
}

/// The phases before following. More that is whole than the last time renews the patience.
async fn prepare(session: &Session, whole: &mut u64, patience: &mut Patience) -> Result<()> {
    let world = &session.world;
    let green = world.client(Side::Green).await?;
    let now = ledger::count_whole(&green, world.attempt.number).await?;
    drop(green);
    if now > *whole {
        (*whole, *patience) = (now, Patience::default());
    }
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
}

/// Follows until it is to end, and once more whenever one that asked us to step aside has gone. In `mode: snapshot` only
/// revocations are left to be captured.
async fn keep_following(session: &Session, until: Until, stop: watch::Receiver<bool>) -> Result<Ended> {
    let world = &session.world;
    let is_snapshot = world.plan.is_snapshot();
    if is_snapshot && world.plan.revocations.is_empty() {
        return Ok(Ended::Copied);
    }
    world.ears.tell(Event::Phase { name: if is_snapshot { "capture" } else { "follow" }.into() });
    loop {
        if !is_snapshot {
            world.start_following().await?;
        }
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
    let mut lookout = Lookout::default();
    let mut kept = Instant::now();
    let mut goal = None;
    if until == Until::CaughtUp {
        goal = Some(match world.plan.is_snapshot() {
            true => gates::written_lsn(world).await?,
            false => gates::current_lsn(world).await?,
        });
    }
    loop {
        tokio::select! {
            _ = tokio::time::sleep(LOOK_EVERY) => {}
            error = session.lost() => return Err(error),
            _ = stop.wait_for(|stop| *stop) => return Ok(Ended::Stopped),
        }
        world.followers_health().await?;
        lookout.look(world).await?;
        if kept.elapsed() >= KEEP_KEYS_EVERY {
            world.keep_last_keys().await;
            kept = Instant::now();
        }
        let asked = handover::asked(&*world.client(Side::Green).await?, world.epoch).await?;
        if let Some(command) = asked {
            return Ok(Ended::SteppedAside { command });
        }
        if let Some(goal) = goal
            && has_come_to(world, goal).await
        {
            return Ok(Ended::CaughtUp);
        }
    }
}

/// Whether green has everything up to there; in `mode: snapshot`, whether every revocation up to there is captured.
async fn has_come_to(world: &World, goal: Lsn) -> bool {
    if world.plan.is_snapshot() {
        let capture = world.capture.lock().await;
        return capture.as_ref().is_some_and(|capture| capture.status().position >= goal);
    }
    let follower = world.follower.lock().await;
    let status = follower.as_ref().map(|follower| follower.status().borrow().clone());
    status
        .is_some_and(|status| status.durable >= goal && status.lag_bytes <= gates::lag_max_bytes(&world.plan))
}
