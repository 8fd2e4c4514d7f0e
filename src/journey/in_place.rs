//! What is told of a migration in place, and its end: its one database holds all our state.

use super::{
    apply, compat,
    report::{self, Report},
    session::{self, Brief},
    status::{PhaseStatus, Status},
};
use crate::engine::{
    Record, failpoint, journal,
    keeper::{Keeper, Place},
    lease::{self, Takeover},
    pin::{self, InPlacePin},
    state,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{connect, conninfo::ConnInfo};
use crate::plan::{Plan, Side};
use crate::runbook::PhaseName;
use crate::step::StepId;
use tokio_postgres::Client;

/// The attempt that was begun last.
struct Last {
    pin: InPlacePin,
    ended: bool,
}

/// Reads where it is. Needs no lease.
///
/// # Errors
/// [`Kind::Connect`] when the database cannot be reached; [`Kind::Gate`] when it belongs to another migration.
pub async fn status(brief: &Brief) -> Result<Status> {
    let plan = &brief.plan;
    let client = reach(plan, "status").await?;
    let Some(Last { pin, ended }) = last(&client, plan).await? else {
        return Ok(Status::not_begun(plan, "migrate plan, then migrate apply"));
    };
    let record = Record::replay(&journal::read(&client, pin.attempt).await?)?;
    let holder = lease::holder(&client).await?.filter(|holder| holder.alive);
    let edited = apply::fingerprint(brief)? != pin.fingerprint;
    let (summary, next) = match (ended, edited, &holder) {
        (true, true, _) => {
            ("the plan as it was before it was edited is applied", "migrate apply, for the new one")
        }
        (true, false, _) => ("all of it is applied", "migrate finish, which removes our records"),
        (false, true, _) => {
            ("not all is applied, and the plan was edited since it was pinned", "put the plan back")
        }
        (false, false, Some(_)) => ("the statements are being applied", "wait"),
        (false, false, None) => ("not all is applied, and nobody is at work", "migrate apply"),
    };
    let steps = pin.statements.iter().map(|statement| {
        let status = record.status(&StepId::new(statement.id.clone()));
        (statement.id.clone(), status)
    });
    Ok(Status {
        attempt: Some(pin.attempt),
        fingerprint: Some(pin.fingerprint.clone()),
        summary: summary.into(),
        holder: holder.map(|holder| format!("{} (epoch {})", holder.name, holder.epoch)),
        phases: vec![PhaseStatus { name: PhaseName::Apply, steps: steps.collect() }],
        ..Status::not_begun(plan, next)
    })
}

/// Reads the report of the last attempt. Needs no lease.
///
/// # Errors
/// [`Kind::Request`] when none was begun.
pub async fn report(plan: &Plan) -> Result<Report> {
    let client = reach(plan, "report").await?;
    match last(&client, plan).await? {
        Some(Last { pin, .. }) => report_of(&client, plan, &pin).await,
        None => Err(nothing_begun(plan)),
    }
}

/// Removes the views for old clients and our records from the database, and returns the report, which cannot be asked for
/// any more after that.
///
/// # Errors
/// [`Kind::Request`] when nothing was begun, or not all is applied; [`Kind::Lease`]; as [`compat::drop`].
///
/// # Crash
/// Run it again: the views go as a whole or not at all, and so does our schema, after them.
pub async fn finish(plan: &Plan) -> Result<Report> {
    let client = reach(plan, "lease").await?;
    let pin = ended(&client, plan).await?;
    let report = report_of(&client, plan, &pin).await?;
    let holder = format!("finish (process {})", std::process::id());
    let info = ConnInfo::parse(plan.blue.url.expose())?;
    let place = Place { side: Side::Blue, info: info.clone(), client };
    let keeper = Keeper::take(vec![place], &holder, Takeover::OnlyWhenFree).await?;
    let info = info.acting_as(keeper.epoch());
    let dropped = async {
        let mut client = connect::connect(&info, "finish").await?;
        compat::drop(&mut client, plan, keeper.epoch()).await?;
        failpoint::hit("finish:views-dropped");
        state::drop(&client, Side::Blue).await
    };
    let outcome = dropped.await;
    keeper.release().await;
    outcome.map(|()| report)
}

/// Whether there is anything to finish, told before the operator is asked. Reads only.
///
/// # Errors
/// [`Kind::Request`] when nothing has begun, or not all is applied.
pub async fn look_before_finish(plan: &Plan) -> Result<()> {
    ended(&reach(plan, "finish").await?, plan).await.map(drop)
}

/// The last attempt, which must be at its end.
async fn ended(client: &Client, plan: &Plan) -> Result<InPlacePin> {
    match last(client, plan).await? {
        None => Err(nothing_begun(plan)),
        Some(Last { ended: false, .. }) => {
            Err(Error::new(Kind::Request, "not all of the plan is applied, so there is nothing to finish")
                .hint("`migrate apply` goes on; `migrate status` tells how far it is"))
        }
        Some(Last { pin, .. }) => Ok(pin),
    }
}

async fn reach(plan: &Plan, purpose: &str) -> Result<Client> {
    session::reach(Side::Blue, &ConnInfo::parse(plan.blue.url.expose())?, purpose).await
}

async fn last(client: &Client, plan: &Plan) -> Result<Option<Last>> {
    if state::find(client, Side::Blue, &plan.name).await?.is_none() {
        return Ok(None);
    }
    let found = pin::last(client, &plan.name).await?;
    Ok(found.map(|(pin, ended)| Last { pin, ended }))
}

async fn report_of(client: &Client, plan: &Plan, pin: &InPlacePin) -> Result<Report> {
    let version: i32 = client
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .doing(Kind::Server, || "cannot ask for the server's version".into())?
        .get(0);
    Ok(Report {
        plan: plan.name.clone(),
        attempt: pin.attempt,
        fingerprint: pin.fingerprint.clone(),
        blue_version: version.unsigned_abs(),
        copy: None,
        tables: Vec::new(),
        accepted_ddl: Vec::new(),
        moment: None,
        lost: None,
        fence: None,
        held_ms: None,
        revocations: None,
        journal: report::lines(client, pin.attempt).await?,
    })
}

fn nothing_begun(plan: &Plan) -> Error {
    Error::new(Kind::Request, format!("the database holds no journal of the migration `{}`", plan.name))
        .hint("nothing has begun, or it is finished: `migrate finish` printed the last report")
}
