//! `rollback`: back to blue, losing nothing, before the point of no return.

use super::{
    blue_alone::{self, Found},
    handover::RequestKind,
    session::{self, Brief, Session, Wish},
};
use crate::engine::{
    failpoint,
    keeper::{Keeper, Place},
    lease::Takeover,
    state,
};
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::connect;
use crate::plan::{Plan, Side};
use crate::runbook::PhaseName;
use crate::step::fence_blue::gate_state;
use tokio_postgres::Client;

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The cutover alone: blue is as before, green goes on following.
    Cutover,
    /// Everything: nothing of ours is left on either side.
    All,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As far as was asked.
    Done,
    /// What an earlier `rollback --all` had left is gone.
    RestRemoved,
    /// Clients are with blue, but green does not answer: its journal knows nothing of it.
    BlueAlone,
}

/// Goes back, over both sides or, when green cannot be reached and clients are held, over blue alone.
///
/// # Errors
/// As [`Session::open`] and [`run`]; why green cannot be reached, when nothing of a cutover is to be taken back or the
/// copy was to be removed too.
pub async fn open_and_run(brief: Brief, extent: Extent, ears: Ears) -> Result<Outcome> {
    let plan = brief.plan.clone();
    match over_both(brief, extent, ears.clone()).await {
        Err(error) if error.kind == Kind::Connect => over_blue(&plan, extent, ears, error).await,
        outcome => outcome,
    }
}

async fn over_both(brief: Brief, extent: Extent, ears: Ears) -> Result<Outcome> {
    if extent == Extent::All && remove_rest(&brief.plan).await? {
        return Ok(Outcome::RestRemoved);
    }
    let session = Session::open(brief, Wish::TakeOver(RequestKind::Rollback), ears).await?;
    let outcome = run(&session, extent).await;
    session.close(outcome).await.map(|()| Outcome::Done)
}

async fn over_blue(plan: &Plan, extent: Extent, ears: Ears, unreachable: Error) -> Result<Outcome> {
    match (blue_alone::go_back(plan, Takeover::OnlyWhenFree, &ears).await?, extent) {
        (Found::Nothing, _) => Err(unreachable),
        (Found::Switch, Extent::Cutover) => Ok(Outcome::BlueAlone),
        (Found::Switch, Extent::All) => {
            Err(Error::new(Kind::Stopped, "clients are with blue again, but the copy could not be removed")
                .hint("run `migrate rollback --all` again as soon as green answers")
                .source(unreachable))
        }
    }
}

/// Takes back the cutover's effects, and with [`Extent::All`] the copy and everything else of ours.
///
/// # Errors
/// [`crate::error::Kind::ForwardOnly`] when green may have been opened; nothing is undone then.
///
/// # Crash
/// Run it again: each step's undo is journaled as its doing is. Our schema on green goes last but one, blue's last; for
/// a crash between the two there is [`remove_rest`].
async fn run(session: &Session, extent: Extent) -> Result<()> {
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
        for side in [Side::Green, Side::Blue] {
            world.prove_lease_on(side).await?;
            state::drop(&*world.client(side).await?, side).await?;
            failpoint::hit(&format!("rollback:{side}-forgotten"));
        }
    }
    Ok(())
}

/// Whether there is anything for a `rollback --all` to remove, told before the operator is asked. Reads only; without
/// an answer of green there may be.
///
/// # Errors
/// [`crate::error::Kind::Request`] when nothing has begun.
pub async fn look_first(plan: &Plan) -> Result<()> {
    let (_, green_info) = session::connections(plan)?;
    let green = match session::reach(Side::Green, &green_info, "rollback").await {
        // Clients may be held all the same, which blue alone can tell, once we hold its lease.
        Err(error) if error.kind == Kind::Connect => return Ok(()),
        reached => reached?,
    };
    if session::begun(&green, plan).await?.is_some() || !left_over(plan, green).await?.is_empty() {
        return Ok(());
    }
    Err(session::nothing_begun(plan))
}

/// Removes what a `rollback --all` left that died between its last two effects, or a `replicate` that died before its
/// first: our schema on either side, with an open gate on blue and no attempt on green. Says whether there was any.
///
/// # Errors
/// [`crate::error::Kind::Lease`] when somebody is at work; [`crate::error::Kind::Gate`] when a side is another
/// migration's.
async fn remove_rest(plan: &Plan) -> Result<bool> {
    let (blue_info, green_info) = session::connections(plan)?;
    let green = session::reach(Side::Green, &green_info, "rollback").await?;
    let places = left_over(plan, green).await?;
    if places.is_empty() {
        return Ok(false);
    }
    let sides: Vec<Side> = places.iter().map(|place| place.side).rev().collect();
    let holder = format!("rollback (process {})", std::process::id());
    let keeper = Keeper::take(places, &holder, Takeover::OnlyWhenFree).await?;
    for side in sides {
        let info = if side == Side::Blue { &blue_info } else { &green_info };
        let client = connect::connect(&info.acting_as(keeper.epoch()), "rollback").await?;
        // Looked at again under the lease: somebody may have pinned an attempt just before we took it.
        if side == Side::Green && session::begun(&client, plan).await?.is_some() {
            keeper.release().await;
            return Ok(false);
        }
        state::drop(&client, side).await?;
    }
    Ok(true)
}

/// Where our schema is though no attempt is on, blue first.
async fn left_over(plan: &Plan, green: Client) -> Result<Vec<Place>> {
    if session::begun(&green, plan).await?.is_some() {
        return Ok(Vec::new());
    }
    let (blue_info, green_info) = session::connections(plan)?;
    let blue = session::reach(Side::Blue, &blue_info, "lease").await?;
    let known = state::find(&blue, Side::Blue, &plan.name).await?.is_some();
    // After `finish` green is empty of us too, but blue is fenced and must stay so.
    if known && gate_state(&blue).await? != "OPEN" {
        return Ok(Vec::new());
    }
    let mut places = Vec::new();
    for (side, info, client) in [(Side::Blue, blue_info, blue), (Side::Green, green_info, green)] {
        if state::is_there(&client, side, &plan.name).await? {
            places.push(Place { side, info, client });
        }
    }
    Ok(places)
}
