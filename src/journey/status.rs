//! `status`: where we are, what we wait for. Reads only, and needs no lease.

use super::{
    blue_alone, gates, in_place,
    session::{self, Brief},
};
use crate::engine::{Record, journal, lease, pin::Pin};
use crate::error::{Doing, Kind, Result};
use crate::facts::TableWrites;
use crate::pg::{connect, lsn::Lsn, name::TableName};
use crate::plan::{MigrationKind, Plan, Side};
use crate::runbook::{PhaseName, Runbook, blue_green};
use crate::step::{attempt::Attempt, take_moment};
use serde::Serialize;

/// Where a migration is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The plan's name.
    pub plan: String,
    /// The try; `None` when nothing has begun.
    pub attempt: Option<i32>,
    /// The pinned fingerprint.
    pub fingerprint: Option<String>,
    /// What it comes to, in a sentence.
    pub summary: String,
    /// What to type next.
    pub next: String,
    /// The copy is done, and green follows within the lag that the plan's gates allow; in `mode: snapshot`, the copy is done.
    pub caught_up: bool,
    /// Who is at work.
    pub holder: Option<String>,
    /// Each phase, with its steps.
    pub phases: Vec<PhaseStatus>,
    /// The first copy.
    pub copy: Option<CopyStatus>,
    /// Following.
    pub follow: Option<FollowStatus>,
    /// In `mode: snapshot`, of which moment green's copy is, once that is so.
    pub moment: Option<MomentStatus>,
    /// Blue's gate; `None` when blue cannot be reached.
    pub blue_gate: Option<String>,
    /// Green's gate.
    pub green_gate: Option<String>,
}

/// A phase and its steps.
#[derive(Debug, Clone, Serialize)]
pub struct PhaseStatus {
    /// Its name.
    pub name: PhaseName,
    /// Id and status of each step.
    pub steps: Vec<(String, crate::engine::status::Status)>,
}

/// How far the copy is.
#[derive(Debug, Clone, Serialize)]
pub struct CopyStatus {
    /// Tables that are done.
    pub tables_done: i64,
    /// Tables in all.
    pub tables: i64,
    /// Rows so far.
    pub rows: i64,
    /// Bytes so far.
    pub bytes: i64,
    /// Age of the oldest snapshot that the copy holds on blue, in milliseconds: what vacuum there has to wait for. `None`
    /// when it holds none, or blue cannot be reached.
    pub snapshot_age_ms: Option<i64>,
    /// The limit of the plan's throttle that the copy waits for. `None` when it does not wait, or blue cannot be reached.
    pub throttled_by: Option<String>,
}

/// Of which moment of blue green's copy is.
#[derive(Debug, Clone, Serialize)]
pub struct MomentStatus {
    /// Up to where green has everything.
    pub lsn: Lsn,
    /// When that was, by blue's clock.
    pub at: jiff::Timestamp,
    /// How long ago, in milliseconds; `None` when blue cannot be reached.
    pub age_ms: Option<i64>,
    /// What blue has written since, by its own counters: about what green does not have. Tables without any are left out;
    /// `None` when blue cannot be reached.
    pub written_since: Option<Vec<TableWrites>>,
    /// Tables whose counters began anew since.
    pub not_known: Vec<TableName>,
}

/// How far following is.
#[derive(Debug, Clone, Serialize)]
pub struct FollowStatus {
    /// Up to where green has everything.
    pub commit_lsn: Lsn,
    /// Bytes of WAL from there to blue's end; `None` when blue cannot be reached.
    pub lag_bytes: Option<u64>,
    /// Blue transactions applied.
    pub transactions: i64,
    /// Whether somebody reads our slot now.
    pub active: Option<bool>,
    /// WAL our slot holds back on blue.
    pub retained_wal_bytes: Option<i64>,
}

/// Reads where a migration is.
///
/// # Errors
/// [`Kind::Connect`] when green cannot be reached. Blue may be down: then what it would tell is left out.
pub async fn read(brief: &Brief) -> Result<Status> {
    let plan = &brief.plan;
    if plan.kind == MigrationKind::InPlace {
        return in_place::status(brief).await;
    }
    let (blue_info, green_info) = session::connections(plan)?;
    let green = session::reach(Side::Green, &green_info, "status").await?;
    let Some(pin) = session::begun(&green, plan).await? else {
        return Ok(Status::not_begun(plan, "migrate plan, then migrate replicate"));
    };
    let attempt = Attempt::new(&plan.name, pin.attempt);
    let runbook = blue_green::build(plan, &pin.blue_facts, &attempt, brief.sql());
    let record = Record::replay(&journal::read(&green, pin.attempt).await?)?;
    let holder = lease::holder(&green).await?.filter(|holder| holder.alive);
    let blue = match connect::connect(&blue_info, "status").await {
        Ok(blue) => Some(blue),
        Err(error) => {
            tracing::warn!(%error, "blue cannot be reached");
            None
        }
    };
    let phases = phases(&runbook, &record);
    let taken_back = match &blue {
        Some(blue) => blue_alone::was_taken_back(blue).await?,
        None => false,
    };
    let (summary, next) = match taken_back {
        true => blue_alone::outlook(),
        false => outlook(plan, &runbook, &record, holder.is_some()),
    };
    let moment = moment(&green, blue.as_ref(), pin.attempt).await?;
    let follow = match moment {
        Some(_) => None,
        None => follow(&green, blue.as_ref(), &attempt).await?,
    };
    let copied = record.is_done(runbook.phase(PhaseName::Replicate));
    let within = |follow: &FollowStatus| {
        follow.active == Some(true)
            && follow.lag_bytes.is_some_and(|lag_bytes| lag_bytes <= gates::lag_max_bytes(plan))
    };
    Ok(Status {
        caught_up: copied && (moment.is_some() || follow.as_ref().is_some_and(within)),
        plan: plan.name.clone(),
        attempt: Some(pin.attempt),
        fingerprint: Some(pin.fingerprint.clone()),
        summary,
        next,
        holder: holder.map(|holder| format!("{} (epoch {})", holder.name, holder.epoch)),
        phases,
        copy: copy(&green, blue.as_ref(), &pin).await?,
        follow,
        moment,
        blue_gate: match &blue {
            Some(blue) => gate(blue).await?,
            None => None,
        },
        green_gate: gate(&green).await?,
    })
}

impl Status {
    /// Of a migration of which nothing is to be seen.
    pub(super) fn not_begun(plan: &Plan, next: &str) -> Status {
        Status {
            plan: plan.name.clone(),
            attempt: None,
            fingerprint: None,
            summary: "nothing has begun, or all is finished".into(),
            next: next.into(),
            caught_up: false,
            holder: None,
            phases: Vec::new(),
            copy: None,
            follow: None,
            moment: None,
            blue_gate: None,
            green_gate: None,
        }
    }
}

fn phases(runbook: &Runbook, record: &Record) -> Vec<PhaseStatus> {
    let steps = |phase: &crate::runbook::Phase| {
        phase.steps.iter().map(|step| (step.id().to_string(), record.status(&step.id()))).collect()
    };
    runbook.phases.iter().map(|phase| PhaseStatus { name: phase.name, steps: steps(phase) }).collect()
}

/// What it comes to, and what to type next.
fn outlook(plan: &Plan, runbook: &Runbook, record: &Record, at_work: bool) -> (String, String) {
    let done = |name| record.is_done(runbook.phase(name));
    let begun = |name| record.any_begun(runbook.phase(name));
    let (summary, next) = if done(PhaseName::Settle) && done(PhaseName::Switch) {
        (
            "clients are served by green; blue is fenced",
            "migrate finish, when nobody needs the way back any more",
        )
    } else if done(PhaseName::Switch) {
        ("clients are served by green; not all is settled", "migrate cutover")
    } else if begun(PhaseName::Switch) && !at_work {
        (
            "a cutover was cut short; clients may be held",
            "migrate cutover to go on, or migrate rollback to go back, at once",
        )
    } else if begun(PhaseName::Switch) {
        ("the cutover is going on", "wait")
    } else if plan.is_snapshot() && done(PhaseName::Prepare) && done(PhaseName::Replicate) {
        match (plan.revocations.is_empty(), at_work) {
            (true, _) => ("green has its copy; what blue writes is not carried", "migrate cutover"),
            (false, true) => {
                ("green has its copy; of what blue writes, revocations alone are captured", "migrate cutover")
            }
            (false, false) => (
                "green has its copy, but nobody captures revocations: blue's WAL piles up",
                "migrate replicate, or migrate cutover",
            ),
        }
    } else if done(PhaseName::Prepare) && done(PhaseName::Replicate) && at_work {
        ("green follows blue", "migrate cutover, when the lag is small")
    } else if done(PhaseName::Prepare) && done(PhaseName::Replicate) {
        (
            "green has a copy, but nobody follows blue: its WAL piles up",
            "migrate replicate, or migrate cutover",
        )
    } else if at_work {
        ("the copy is going on", "wait")
    } else {
        ("the copy was cut short", "migrate replicate")
    };
    (summary.into(), next.into())
}

async fn copy(
    green: &tokio_postgres::Client,
    blue: Option<&tokio_postgres::Client>,
    pin: &Pin,
) -> Result<Option<CopyStatus>> {
    let (snapshot_age_ms, throttled_by) = match blue {
        Some(blue) => (snapshot_age_ms(blue).await?, throttled_by(blue).await?),
        None => (None, None),
    };
    let row = green
        .query_one(include_str!("../../sql/journey/copy_status.sql"), &[&pin.attempt])
        .await
        .doing(Kind::Server, || "cannot read the copy's ledger".into())?;
    let status = CopyStatus {
        tables_done: row.get("tables_done"),
        tables: row.get("tables"),
        rows: row.get("rows"),
        bytes: row.get("bytes"),
        snapshot_age_ms,
        throttled_by,
    };
    Ok((status.tables > 0).then_some(status))
}

async fn moment(
    green: &tokio_postgres::Client,
    blue: Option<&tokio_postgres::Client>,
    attempt: i32,
) -> Result<Option<MomentStatus>> {
    let Some(moment) = take_moment::read(green, attempt).await? else { return Ok(None) };
    let mut status = MomentStatus {
        lsn: moment.lsn,
        at: moment.at,
        age_ms: None,
        written_since: None,
        not_known: Vec::new(),
    };
    if let Some(blue) = blue {
        let (written, not_known) = take_moment::written_since(blue, &moment).await?;
        let now: jiff::Timestamp = blue
            .query_one("select clock_timestamp()", &[])
            .await
            .doing(Kind::Server, || "cannot read blue's clock".into())?
            .get(0);
        status.age_ms = Some(now.as_millisecond() - moment.at.as_millisecond());
        (status.written_since, status.not_known) = (Some(written), not_known);
    }
    Ok(Some(status))
}

async fn snapshot_age_ms(blue: &tokio_postgres::Client) -> Result<Option<i64>> {
    let row = blue
        .query_one(include_str!("../../sql/journey/copy_held.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot look for snapshots of the copy on blue".into())?;
    Ok(row.get("snapshot_age_ms"))
}

async fn throttled_by(blue: &tokio_postgres::Client) -> Result<Option<String>> {
    let row = blue
        .query_opt(include_str!("../../sql/journey/read_throttled.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot look on blue what the copy waits for".into())?;
    Ok(row.map(|row| row.get("limit_name")))
}

async fn follow(
    green: &tokio_postgres::Client,
    blue: Option<&tokio_postgres::Client>,
    attempt: &Attempt,
) -> Result<Option<FollowStatus>> {
    let row = green
        .query_opt(include_str!("../../sql/journey/progress_status.sql"), &[&attempt.slot()])
        .await
        .doing(Kind::Server, || "cannot read green's progress".into())?;
    let Some(row) = row else { return Ok(None) };
    let commit_lsn = parse_lsn(&row.get::<_, String>("commit_lsn"))?;
    let slot = match blue {
        Some(blue) => blue
            .query_opt(include_str!("../../sql/journey/slot_status.sql"), &[&attempt.slot()])
            .await
            .doing(Kind::Server, || "cannot read our slot on blue".into())?,
        None => None,
    };
    let lag_bytes = match &slot {
        Some(slot) => Some(parse_lsn(&slot.get::<_, String>("insert_lsn"))?.bytes_since(commit_lsn)),
        None => None,
    };
    Ok(Some(FollowStatus {
        commit_lsn,
        lag_bytes,
        transactions: row.get("transactions"),
        active: slot.as_ref().map(|slot| slot.get("active")),
        retained_wal_bytes: slot.as_ref().and_then(|slot| slot.get("retained_bytes")),
    }))
}

fn parse_lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|error: String| crate::error::Error::new(Kind::Bug, error))
}

/// A side's gate; `None` where our schema is not.
async fn gate(client: &tokio_postgres::Client) -> Result<Option<String>> {
    let row = client
        .query_opt("select to_regclass('migrate.gate') is not null", &[])
        .await
        .doing(Kind::Server, || "cannot look for the gate".into())?;
    match row {
        Some(row) if row.get::<_, bool>(0) => crate::step::fence_blue::gate_state(client).await.map(Some),
        _ => Ok(None),
    }
}
