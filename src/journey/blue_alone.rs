//! The way back over blue alone: clients are held, and green with its journal cannot be reached.
//!
//! Nothing that going back needs is on green: blue has the gate, the lease, and where clients were sent
//! (`step/way_back.rs`). Green's journal goes on saying that the switch was begun; a row on blue says that this is not
//! so any more, and the next session on both sides tells the journal. See `docs/decisions/0004-blue-alone.md`.

use super::session::{self, Session};
use crate::engine::{
    failpoint,
    keeper::{Keeper, Place},
    lease::{self, Takeover},
    state,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Ears;
use crate::pg::{connect, conninfo::ConnInfo};
use crate::plan::{Plan, Side};
use crate::route::{OnBehalfOf, Route};
use crate::runbook::PhaseName;
use crate::step::{fence_blue::gate_state, way_back};
use std::time::Duration;
use tokio_postgres::Client;

/// What there was to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No client was held and blue took writes: nothing was changed but the epoch.
    Nothing,
    /// A switch that was cut short; clients are with blue again.
    Switch,
}

/// What the operator does next.
pub(super) const HINT: &str = "green's journal does not know of it yet: as soon as green answers, the next command tells it, and then `migrate cutover` can be tried again";

/// For one try, from the lease to the RESUME.
const WITHIN: Duration = Duration::from_secs(45);
/// For each act at the route.
const ROUTE_WITHIN: Duration = Duration::from_secs(20);

/// Takes clients back to blue without green: the next epoch on blue, then the routes, the gate, RESUME.
///
/// The epoch comes first: from then on no process that is thought dead can commit `OPENING`, and one that already did
/// is seen. The gate's triggers stay, open.
///
/// # Errors
/// [`Kind::ForwardOnly`] when green may have been opened; [`Kind::Lease`] when somebody else is at work; the route's or
/// blue's otherwise.
///
/// # Crash
/// Run it again: each of the acts may be repeated, and where clients were sent is forgotten last.
pub async fn go_back(plan: &Plan, takeover: Takeover, ears: &Ears) -> Result<Found> {
    let (info, _) = session::connections(plan)?;
    let blue = session::reach(Side::Blue, &info, "lease").await?;
    if state::find(&blue, Side::Blue, &plan.name).await?.is_none() {
        return Ok(Found::Nothing);
    }
    refuse_opening(&gate_state(&blue).await?)?;
    let holder = format!("rollback over blue alone (process {})", std::process::id());
    let places = vec![Place { side: Side::Blue, info: info.clone(), client: blue }];
    let keeper = Keeper::take(places, &holder, takeover).await?;
    let alone = BlueAlone { plan, info: info.acting_as(keeper.epoch()), epoch: keeper.epoch() };
    let done = tokio::select! {
        done = tokio::time::timeout(WITHIN, alone.go_back(ears)) => done.unwrap_or_else(|_| {
            Err(Error::new(Kind::Stopped, format!("taking blue back took longer than {} s", WITHIN.as_secs())))
        }),
        error = keeper.lost() => Err(error),
    };
    keeper.release().await;
    done
}

struct BlueAlone<'a> {
    plan: &'a Plan,
    /// Blue, under our epoch.
    info: ConnInfo,
    epoch: i64,
}

impl BlueAlone<'_> {
    async fn go_back(&self, ears: &Ears) -> Result<Found> {
        let mut blue = connect::connect(&self.info, "way back").await?;
        if self.begin(&mut blue).await? == Found::Nothing {
            return Ok(Found::Nothing);
        }
        failpoint::hit("blue-alone:begun");
        let route = match &self.plan.cutover.route {
            Some(route) => {
                let ours = OnBehalfOf { plan: self.plan.name.clone(), epoch: self.epoch };
                Some(Route::from_plan(route, ours, ears.clone())?)
            }
            None => None,
        };
        if let (Some(route), Some(before)) = (&route, way_back::read(&blue).await?) {
            lease::guard(&blue, self.epoch).await?;
            route.switch_to_blue(&before, tokio::time::Instant::now() + ROUTE_WITHIN).await?;
        }
        failpoint::hit("blue-alone:routed");
        self.open_gate(&mut blue).await?;
        failpoint::hit("blue-alone:opened");
        if let Some(route) = &route {
            lease::guard(&blue, self.epoch).await?;
            route.resume_all(tokio::time::Instant::now() + ROUTE_WITHIN).await?;
        }
        failpoint::hit("blue-alone:resumed");
        self.in_transaction(&mut blue, "forget the way back", async |tx| way_back::forget(tx).await).await?;
        Ok(Found::Switch)
    }

    /// Proves that there is a way back, and says that it is gone: from here on green's journal is not to be believed.
    async fn begin(&self, blue: &mut Client) -> Result<Found> {
        self.in_transaction(blue, "look whether green may be open", async |tx| {
            tx.execute("select from migrate.gate for update", &[])
                .await
                .doing(Kind::Stopped, || "cannot look whether green may be open".into())?;
            let state = gate_state(tx).await?;
            refuse_opening(&state)?;
            let held = way_back::read(tx).await?.is_some();
            match (state.as_str(), held) {
                ("OPEN", false) => Ok(Found::Nothing),
                (_, false) => Err(Error::new(Kind::Stopped, "blue does not say where clients were sent")
                    .hint("point each PgBouncer to blue and RESUME by hand; `migrate rollback` does the rest once green answers")),
                (_, true) => {
                    way_back::say_gone(tx, self.epoch).await?;
                    Ok(Found::Switch)
                }
            }
        })
        .await
    }

    async fn open_gate(&self, blue: &mut Client) -> Result<()> {
        self.in_transaction(blue, "open blue's gate", async |tx| {
            tx.execute(include_str!("../../sql/gate/reopen_blue.sql"), &[&self.epoch])
                .await
                .doing(Kind::Stopped, || "cannot open blue's gate again".into())?;
            refuse_opening(&gate_state(tx).await?)
        })
        .await
    }

    /// In one transaction that has proved the lease; committed unless `act` fails.
    async fn in_transaction<T>(
        &self,
        blue: &mut Client,
        doing: &str,
        act: impl AsyncFnOnce(&tokio_postgres::Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let tx = lease::transaction(blue, self.epoch, doing).await?;
        let done = act(&tx).await?;
        tx.commit().await.doing(Kind::Stopped, || format!("cannot {doing}"))?;
        Ok(done)
    }
}

fn refuse_opening(state: &str) -> Result<()> {
    if state != "OPENING" {
        return Ok(());
    }
    Err(Error::new(Kind::ForwardOnly, "green may have been opened: blue stays closed").hint(
        "green may hold writes that blue does not; go on with `migrate cutover` as soon as green answers",
    ))
}

/// Whether green's journal is behind what blue says, without the lease.
pub(super) async fn was_taken_back(blue: &Client) -> Result<bool> {
    let there: bool = blue
        .query_one("select to_regclass('migrate.manifest') is not null", &[])
        .await
        .doing(Kind::Server, || "cannot look for blue's manifest".into())?
        .get(0);
    Ok(there && way_back::was_gone(blue).await?)
}

/// What that comes to, and what to type next.
pub(super) fn outlook() -> (String, String) {
    (
        "a cutover was called off over blue alone, and green's journal does not know of it; clients are with blue, unless that too was cut short".into(),
        "migrate rollback to tell green's journal; or migrate cutover, which does so first".into(),
    )
}

/// Tells green's journal that blue was taken back without it; nothing when it was not.
///
/// Every step of the switch is taken back again, since what the journal says of them is not so any more; each undo finds
/// its effect gone, or finishes what a way back that was cut short has left.
///
/// # Errors
/// The undo's own.
pub(super) async fn tell_journal(session: &Session) -> Result<()> {
    let world = &session.world;
    if !way_back::was_gone(&*world.client(Side::Blue).await?).await? {
        return Ok(());
    }
    world.note("blue was taken back while green could not be reached; now green's journal is told");
    session.engine().await?.back(session.runbook.phase(PhaseName::Switch)).await?;
    failpoint::hit("blue-alone:journal-told");
    let mut blue = world.client(Side::Blue).await?;
    let tx = world.transaction(&mut blue, "say that the journal was told").await?;
    way_back::say_told(&tx).await?;
    tx.commit().await.doing(Kind::Server, || "cannot say on blue that the journal was told".into())
}
