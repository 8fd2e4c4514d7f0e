//! `cutover`: gates, then the switch; back to where we were when it fails before the point of no return.

use super::{
    blue_alone, gates,
    session::{self, Brief, Session},
    status::{self, MomentStatus},
};
use crate::copy::views;
use crate::engine::{Engine, Record, journal, lease, lease::Takeover};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::pg::connect;
use crate::plan::{Plan, Side};
use crate::runbook::{PhaseName, Runbook, blue_green};
use crate::step::{Reversal, attempt::Attempt, fence_blue::gate_state, replay_revocations, world::World};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long green may take to come within the lag gate once `cutover` follows.
const WARM_UP: Duration = Duration::from_secs(120);
/// How long working off the queue of revocations, and proving them, may take before the pause.
const BACKLOG: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How far over the budget a step may be before it is dropped: its own deadline should have ended it.
const OVER_BUDGET: Duration = Duration::from_secs(1);
/// How long one try to go back, or on, may take.
const BACK_ONCE: Duration = Duration::from_secs(45);
/// How long going back, or on, is tried again.
const PERSIST: Duration = Duration::from_secs(60);
/// How long held clients wait for a green that does not answer, a restart of it perhaps, before blue is taken back alone.
const GREEN_WITHIN: Duration = Duration::from_secs(3);

/// Runs the cutover to its end: traffic on green, or everything as before.
///
/// `stop` turning true before the point of no return makes it go back; after it, it is noted and we go on.
///
/// # Errors
/// [`Kind::Gate`] and nothing touched when a gate does not hold; the step's error with everything as before when it
/// fails before the point of no return; [`Kind::ForwardOnly`] after it, when `migrate cutover` must be run again.
///
/// # Crash
/// Run it again: it goes on from the journal. Or `migrate rollback`, before the point of no return; that needs blue only.
pub async fn run(session: &Session, mut stop: watch::Receiver<bool>) -> Result<()> {
    let world = &session.world;
    refuse_without_route(&world.plan)?;
    let engine = session.engine().await?;
    let runbook = &session.runbook;
    for name in [PhaseName::Prepare, PhaseName::Replicate] {
        refuse_unfinished(engine.record(), runbook.phase(name))?;
    }
    match stage(session, &engine).await? {
        Stage::Untouched => {
            tokio::select! {
                ready = get_ready(session) => ready?,
                _ = stop.wait_for(|stop| *stop) => {
                    return Err(Error::new(Kind::Stopped, "stopped by the operator before the switch began")
                        .hint("nothing was switched; run `migrate cutover` again, or `migrate replicate` to follow on"));
                }
            }
            switch(session, stop).await?;
        }
        Stage::CutShort => {
            world.note("a cutover was cut short; going on from where it stopped");
            world.set_paused(Some(Instant::now()));
            switch(session, stop).await?;
        }
        Stage::PastNoReturn => {
            world.note("a cutover was cut short past the point of no return; going on");
            finish_switch(session).await?;
        }
        Stage::Served => {}
    }
    settle(session)
        .await
        .map_err(|error| forward_only(error, "clients are served by green, but not all is settled"))
}

/// Looks whether the copy is through before a `replicate` is asked to step aside: the vendor's SQL, which cannot answer, would
/// be ended in the middle after ten seconds. Reads green only, and needs no lease.
///
/// # Errors
/// [`Kind::Request`] when nothing has begun; [`Kind::Gate`] when the copy is not through.
pub async fn look_first(brief: &Brief) -> Result<()> {
    let plan = &brief.plan;
    if !plan.is_snapshot() {
        return Ok(());
    }
    let (_, green_info) = session::connections(plan)?;
    let green = session::reach(Side::Green, &green_info, "cutover").await?;
    let pin = session::begun(&green, plan).await?.ok_or_else(|| session::nothing_begun(plan))?;
    let attempt = Attempt::new(&plan.name, pin.attempt);
    let runbook = blue_green::build(plan, &pin.blue_facts, &attempt, brief.sql());
    let record = Record::replay(&journal::read(&green, pin.attempt).await?)?;
    for name in [PhaseName::Prepare, PhaseName::Replicate] {
        refuse_unfinished(&record, runbook.phase(name))?;
    }
    Ok(())
}

/// All that takes time while clients go on undisturbed, and then the gates.
async fn get_ready(session: &Session) -> Result<()> {
    let world = &session.world;
    let is_snapshot = world.plan.is_snapshot();
    if !is_snapshot {
        warm_up(session).await?;
    }
    // As late as can be: once clients are on green, a refresh would lock them out of the view.
    views::refresh(&world.blue_info, &world.green_info, world.epoch, &world.ears).await?;
    gates::give_statistics(world).await?;
    // Last, so that little comes in until the pause.
    if is_snapshot {
        work_off_revocations(session).await?;
    }
    gates::refuse(&gates::look(world).await?)
}

/// How far an earlier cutover came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of the switch was begun.
    Untouched,
    /// It was begun, and there is a way back.
    CutShort,
    /// Green may be open.
    PastNoReturn,
    /// Clients are served by green.
    Served,
}

/// Blue's gate decides whether there is a way back, not the journal: the row is written first.
async fn stage(session: &Session, engine: &Engine<'_, World>) -> Result<Stage> {
    let switch = session.runbook.phase(PhaseName::Switch);
    if engine.record().is_done(switch) {
        return Ok(Stage::Served);
    }
    if !engine.record().any_begun(switch) {
        return Ok(Stage::Untouched);
    }
    let state = gate_state(&*session.world.client(Side::Blue).await?).await?;
    Ok(if state == "OPENING" { Stage::PastNoReturn } else { Stage::CutShort })
}

/// What can wait until clients are served again. Following has nothing left to do by now.
async fn settle(session: &Session) -> Result<()> {
    let world = &session.world;
    if let Err(error) = world.stop_following().await {
        tracing::warn!(%error, "the follower did not stop in time; blue takes no writes any more");
    }
    world.start_capturing().await?;
    world.ears.tell(Event::Phase { name: PhaseName::Settle.as_str().into() });
    session.engine().await?.forward(session.runbook.phase(PhaseName::Settle)).await?;
    world.stop_capturing().await
}

/// Arm and switch; back on any failure before the point of no return.
async fn switch(session: &Session, mut stop: watch::Receiver<bool>) -> Result<()> {
    let world = &session.world;
    let failed = {
        let forward = async {
            if !world.plan.is_snapshot() {
                world.start_following().await?;
            }
            world.start_capturing().await?;
            world.follow_durably().await?;
            let mut engine = session.engine().await?;
            for name in [PhaseName::Arm, PhaseName::Switch] {
                world.ears.tell(Event::Phase { name: name.as_str().into() });
                engine.forward(session.runbook.phase(name)).await?;
            }
            Ok(())
        };
        tokio::select! {
            done = forward => match done {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            error = session.lost() => error,
            error = budget_gone(world) => error,
            _ = stop.wait_for(|stop| *stop) => Error::new(Kind::Stopped, "stopped by the operator"),
        }
    };
    go_back(session, failed).await
}

/// Returns once clients have been held for longer than the plan allows; a step that hangs in a server must not hold
/// them for ever.
async fn budget_gone(world: &World) -> Error {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if world.held_for().is_some_and(|held| held > world.plan.cutover.pause_max.0 + OVER_BUDGET) {
            return Error::new(
                Kind::Deadline,
                format!(
                    "clients were held for longer than cutover.pause_max, {}",
                    world.plan.cutover.pause_max
                ),
            );
        }
    }
}

/// Over which databases we go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayBack {
    /// Over both, with green's journal.
    Both,
    /// Green does not answer, and clients are held.
    BlueAlone,
}

/// Puts everything back as it was, and says why; or goes on, when it turns out that there is no way back.
///
/// Tried again for a while, since a server that restarts is what may have brought us here.
async fn go_back(session: &Session, failed: Error) -> Result<()> {
    let world = &session.world;
    world.ears.tell(Event::Warning { text: format!("going back: {}", failed.chain().join(": ")) });
    let began = Instant::now();
    let mut way = WayBack::Both;
    loop {
        let error = match try_back(session, &mut way).await {
            Ok(()) => {
                world.set_paused(None);
                return Err(called_off(failed, way));
            }
            Err(error) => error,
        };
        match error.kind {
            Kind::ForwardOnly => {
                world.note("the point of no return is passed: going on");
                return finish_switch(session).await;
            }
            Kind::Lease => {
                return Err(error
                    .hint("whoever took over sees to the clients; if they wait and nobody is at work, run `migrate rollback`")
                    .source(failed));
            }
            _ if began.elapsed() < PERSIST => {
                tracing::warn!(why = %error.chain().join(": "), "going back is tried again");
                tokio::time::sleep(LOOK_EVERY * 5).await;
            }
            _ => {
                return Err(Error::new(Kind::Stopped, "going back failed: clients may still be held")
                    .hint("run `migrate rollback` as soon as blue answers; or type RESUME at each PgBouncer")
                    .source(error));
            }
        }
    }
}

/// One try. Once it went over blue alone it does so to the end: blue's epoch is above ours then.
async fn try_back(session: &Session, way: &mut WayBack) -> Result<()> {
    let world = &session.world;
    if *way == WayBack::Both {
        *way = find_way_back(world).await?;
    }
    match *way {
        WayBack::BlueAlone => back_over_blue(world).await,
        WayBack::Both => match tokio::time::timeout(BACK_ONCE, back_once(session)).await {
            Ok(done) => done,
            Err(_) => {
                *way = WayBack::BlueAlone;
                Err(Error::new(
                    Kind::Stopped,
                    format!("going back took longer than {} s", BACK_ONCE.as_secs()),
                ))
            }
        },
    }
}

/// Proves on blue that going back is still ours to do, then finds out whether green takes what that has to write there:
/// a server that only listens is not enough.
async fn find_way_back(world: &World) -> Result<WayBack> {
    lease::guard(&connect::connect(&world.blue_info, "way back").await?, world.epoch).await?;
    let green_answers = async {
        loop {
            let proved = match connect::connect(&world.green_info, "way back").await {
                Ok(green) => lease::guard(&green, world.epoch).await,
                Err(error) => Err(error),
            };
            match proved {
                Ok(()) => return,
                // It answers; going back finds out that the lease is lost.
                Err(error) if error.kind == Kind::Lease => return,
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    Ok(match tokio::time::timeout(GREEN_WITHIN, green_answers).await {
        Ok(()) => WayBack::Both,
        Err(_) => WayBack::BlueAlone,
    })
}

async fn back_over_blue(world: &World) -> Result<()> {
    world.ears.tell(Event::Warning { text: "green does not answer: going back over blue alone".into() });
    blue_alone::go_back(&world.plan, Takeover::FromEpoch(world.epoch), &world.ears).await.map(|_| ())
}

/// What a step of ours left half-done when it was dropped is what the journal and a new look say, no more.
async fn back_once(session: &Session) -> Result<()> {
    session.reconnect().await?;
    session.world.prove_lease().await?;
    let mut engine = session.engine().await?;
    for name in [PhaseName::Switch, PhaseName::Arm] {
        engine.back(session.runbook.phase(name)).await?;
    }
    Ok(())
}

fn called_off(failed: Error, way: WayBack) -> Error {
    let kind = if failed.kind == Kind::Gate { Kind::Gate } else { Kind::Deadline };
    let (what, hint) = match way {
        WayBack::Both => (
            "the cutover was called off before blue was left; everything is as before",
            failed
                .hint
                .clone()
                .unwrap_or_else(|| "clients go on with blue; see to the cause and try again".into()),
        ),
        WayBack::BlueAlone => (
            "the cutover was called off, over blue alone: clients go on with blue, and green does not answer",
            blue_alone::HINT.into(),
        ),
    };
    Error::new(kind, what).hint(hint).source(failed)
}

/// Goes on from the point of no return: the steps before it have served, and their effects (a pause that a restarted
/// PgBouncer has forgotten) must not be asked for again.
async fn finish_switch(session: &Session) -> Result<()> {
    let steps = session.runbook.phase(PhaseName::Switch);
    let from = steps.iter().position(|step| step.reversal() == Reversal::PointOfNoReturn).unwrap_or(0);
    let began = Instant::now();
    loop {
        // What is left has no budget to keep: there is nothing to go back to.
        session.world.set_paused(None);
        let tried = async {
            session.reconnect().await?;
            session.engine().await?.forward(&steps[from..]).await
        };
        let error = match tokio::time::timeout(BACK_ONCE, tried).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                Error::new(Kind::Stopped, format!("going on took longer than {} s", BACK_ONCE.as_secs()))
            }
        };
        if error.kind == Kind::Lease || began.elapsed() > PERSIST {
            return Err(forward_only(error, "green may be open, but clients are not served yet"));
        }
        tracing::warn!(why = %error.chain().join(": "), "going on is tried again");
        tokio::time::sleep(LOOK_EVERY * 5).await;
    }
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
    let runbook = blue_green::build(&brief.plan, &pin.blue_facts, &attempt, brief.sql());
    session::compare_fingerprint(brief, &runbook, &pin)?;
    let lost = status.moment.as_ref().map(lost_so_far).unwrap_or_default();
    Ok(Rehearsal { runbook, standing: format!("nothing was changed; {}{lost}", status.summary) })
}

/// What a cutover now would lose, in words.
fn lost_so_far(moment: &MomentStatus) -> String {
    let written = moment.written_since.iter().flatten();
    let known =
        written.map(|table| format!("about {} rows of {}", table.writes.total(), table.table.plain()));
    let not_known =
        moment.not_known.iter().map(|table| format!("nobody knows how many of {}", table.plain()));
    let tables: Vec<String> = known.chain(not_known).collect();
    let what = match (&moment.written_since, tables.is_empty()) {
        (None, _) => "nobody knows how much, since blue does not answer".to_owned(),
        (Some(_), true) => "no rows by its counters".to_owned(),
        (Some(_), false) => tables.join(", "),
    };
    format!("; what blue wrote since {} is lost: {what}", moment.at)
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
fn refuse_unfinished(record: &Record, steps: &[Box<dyn crate::step::Step<World>>]) -> Result<()> {
    match steps.iter().find(|step| !record.status(&step.id()).is_done()) {
        None => Ok(()),
        Some(step) => {
            Err(Error::new(Kind::Gate, format!("`replicate` is not through: step {} is not done", step.id()))
                .hint("run `migrate replicate` until it follows, then `migrate cutover`"))
        }
    }
}

/// `mode: snapshot`: captures up to now, makes effective on green what is queued, and proves it, so that the pause has only the rest.
async fn work_off_revocations(session: &Session) -> Result<()> {
    let world = &session.world;
    if world.plan.revocations.is_empty() {
        return Ok(());
    }
    world.start_capturing().await?;
    let (goal, began) = (gates::written_lsn(world).await?, Instant::now());
    loop {
        world.followers_health().await?;
        let position = {
            let capture = world.capture.lock().await;
            capture.as_ref().map(|capture| capture.status().position).unwrap_or_default()
        };
        if position >= goal {
            break;
        }
        if began.elapsed() > WARM_UP {
            let what = format!(
                "the capture of revocations is at {position}, and did not reach {goal} within two minutes"
            );
            return Err(Error::new(Kind::Gate, what)
                .hint("let `migrate replicate` capture what is left first; `migrate status` shows whether it is at work"));
        }
        tokio::select! {
            _ = tokio::time::sleep(LOOK_EVERY) => {}
            error = session.lost() => return Err(error),
        }
    }
    tokio::select! {
        done = replay_revocations::work_off_backlog(world, BACKLOG) => done,
        error = session.lost() => Err(error),
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
