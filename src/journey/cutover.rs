//! `cutover`: gates, then the switch; back to where we were when it fails before the point of no return.

use super::{
    gates,
    session::{self, Brief, Session},
    status,
};
use crate::copy::views;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::pg::connect;
use crate::plan::Plan;
use crate::runbook::{PhaseName, Runbook, blue_green};
use crate::step::{attempt::Attempt, world::World};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long green may take to come within the lag gate once `cutover` follows.
const WARM_UP: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the cutover to its end: traffic on green, or everything as before.
///
/// `stop` turning true before the point of no return makes it go back; after it, it is noted and we go on.
///
/// # Errors
/// [`Kind::Gate`] and nothing touched when a gate does not hold; the step's error with everything as before when it
/// fails before the point of no return; [`Kind::ForwardOnly`] after it, when `migrate cutover` must be run again.
///
/// # Crash
/// Run it again: it goes on from the journal. Or `migrate rollback`, before the point of no return.
pub async fn run(session: &Session, stop: watch::Receiver<bool>) -> Result<()> {
    let world = &session.world;
    refuse_without_route(&world.plan)?;
    let mut engine = session.engine().await?;
    let runbook = &session.runbook;
    for name in [PhaseName::Prepare, PhaseName::Replicate] {
        refuse_unfinished(&engine, runbook.phase(name))?;
    }
    let green_open = engine.record().is_done(runbook.phase(PhaseName::Switch));
    if !green_open {
        if !engine.record().any_begun(runbook.phase(PhaseName::Switch)) {
            warm_up(session).await?;
            // As late as can be: once clients are on green, a refresh would lock them out of the view.
            views::refresh(&world.blue_info, &world.green_info, world.epoch, &world.ears).await?;
            gates::refuse(&gates::look(world).await?)?;
        } else {
            world.note("a cutover was cut short; going on from where it stopped");
            world.set_paused(Some(Instant::now()));
            world.start_following().await?;
            world.start_capturing().await?;
        }
        world.follow_durably().await?;
        switch(session, &mut engine, stop).await?;
    } else {
        world.start_capturing().await?;
    }
    world.stop_following().await?;
    world.ears.tell(Event::Phase { name: PhaseName::Settle.as_str().into() });
    engine
        .forward(runbook.phase(PhaseName::Settle))
        .await
        .map_err(|error| forward_only(error, "clients are served by green, but not all is settled"))?;
    world.stop_capturing().await
}

/// Arm and switch; back on any failure before the point of no return.
async fn switch(
    session: &Session,
    engine: &mut Engine<'_, World>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let runbook = &session.runbook;
    let failed = {
        let forward = async {
            for name in [PhaseName::Arm, PhaseName::Switch] {
                session.world.ears.tell(Event::Phase { name: name.as_str().into() });
                engine.forward(runbook.phase(name)).await?;
            }
            Ok(())
        };
        tokio::select! {
            done = forward => match done {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            error = session.lost() => return Err(error),
            _ = stop.wait_for(|stop| *stop) => Error::new(Kind::Stopped, "stopped by the operator"),
        }
    };
    session.world.ears.tell(Event::Warning { text: format!("going back: {failed}") });
    // What a step of ours left half-done when it was dropped is what the journal and a new look say, no more.
    let mut engine = session.engine().await?;
    for name in [PhaseName::Switch, PhaseName::Arm] {
        match engine.back(runbook.phase(name)).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::ForwardOnly => {
                session.world.note("the point of no return is passed: going on");
                return engine.forward(runbook.phase(PhaseName::Switch)).await.map_err(|error| {
                    forward_only(error, "green may be open, but clients are not served yet")
                });
            }
            Err(error) => {
                return Err(Error::new(Kind::Stopped, "going back failed: clients may still be held")
                    .hint("run `migrate rollback` at once")
                    .source(error));
            }
        }
    }
    session.world.set_paused(None);
    let kind = if failed.kind == Kind::Gate { Kind::Gate } else { Kind::Deadline };
    Err(Error::new(kind, "the cutover was called off before blue was left; everything is as before")
        .hint(
            failed
                .hint
                .clone()
                .unwrap_or_else(|| "clients go on with blue; see to the cause and try again".into()),
        )
        .source(failed))
}

/// What a cutover would do, and whether it could begin.
pub struct Rehearsal {
    /// The steps.
    pub runbook: Runbook,
    /// Whether it could begin, in a sentence.
    pub standing: String,
}

/// Builds the cutover's steps from what is pinned, and changes nothing.
///
/// # Errors
/// [`Kind::Request`] when nothing has begun.
pub async fn dry_run(brief: &Brief) -> Result<Rehearsal> {
    refuse_without_route(&brief.plan)?;
    let status = status::read(brief).await?;
    let (_, green_info) = session::connections(&brief.plan)?;
    let green = connect::connect(&green_info, "dry run").await?;
    let pin =
        session::begun(&green, &brief.plan).await?.ok_or_else(|| session::nothing_begun(&brief.plan))?;
    let attempt = Attempt::new(&brief.plan.name, pin.attempt);
    let runbook = blue_green::build(&brief.plan, &pin.blue_facts, &attempt, &brief.sql_files);
    session::compare_fingerprint(brief, &runbook, &pin)?;
    Ok(Rehearsal { runbook, standing: format!("nothing was changed; {}", status.summary) })
}

fn forward_only(error: Error, what: &str) -> Error {
    Error::new(Kind::ForwardOnly, what)
        .hint("run `migrate cutover` again: it goes on from here")
        .source(error)
}

/// Without a route nobody is held, and every client gets errors from the fence on.
fn refuse_without_route(plan: &Plan) -> Result<()> {
    match plan.cutover.route {
        Some(_) => Ok(()),
        None => Err(Error::new(
            Kind::Request,
            "the plan names no route: nothing would send clients to green",
        )
        .hint("add `cutover.route` (the plan is pinned, so `migrate rollback --all` first), and copy again")),
    }
}

/// The copy must be complete: a cutover never starts what takes hours.
fn refuse_unfinished(engine: &Engine<'_, World>, steps: &[Box<dyn crate::step::Step<World>>]) -> Result<()> {
    match steps.iter().find(|step| !engine.record().status(&step.id()).is_done()) {
        None => Ok(()),
        Some(step) => {
            Err(Error::new(Kind::Gate, format!("`replicate` is not through: step {} is not done", step.id()))
                .hint("run `migrate replicate` until it follows, then `migrate cutover`"))
        }
    }
}

/// Follows, and waits until green is within the lag gate: the follower is warm before any client waits for it.
async fn warm_up(session: &Session) -> Result<()> {
    let world = &session.world;
    world.start_following().await?;
    world.start_capturing().await?;
    let began = Instant::now();
    let allowed = gates::lag_max_bytes(&world.plan);
    loop {
        world.followers_health().await?;
        let applied = {
            let follower = world.follower.lock().await;
            follower.as_ref().map(|follower| follower.status().borrow().applied).unwrap_or_default()
        };
        let lag_bytes = gates::current_lsn(world).await?.bytes_since(applied);
        if applied.0 > 0 && lag_bytes <= allowed && world.captures().await {
            return Ok(());
        }
        if began.elapsed() > WARM_UP {
            return Err(Error::new(
                Kind::Gate,
                format!("green is {lag_bytes} bytes of WAL behind after two minutes; {allowed} are allowed"),
            )
            .hint("let `migrate replicate` catch up first; `migrate status` shows the lag"));
        }
        tokio::select! {
            _ = tokio::time::sleep(LOOK_EVERY) => {}
            error = session.lost() => return Err(error),
        }
    }
}
