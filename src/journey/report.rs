//! `report`: what happened, when, with evidence. Read from green's journal; needs no lease.

use super::{in_place, session};
use crate::engine::{journal, pin::Pin, status::JournalEvent};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::connect;
use crate::plan::{MigrationKind, Plan, Side};
use crate::revocation::{self, RevocationTotals};
use crate::step::{
    StepId, blue_shape,
    copy_rows::{self, Copied},
    count_lost::{self, Lost},
    fence_blue::{self, Fenced},
    resume_clients,
    take_moment::{self, Moment},
};
use serde::Serialize;
use std::time::Duration;
use tokio_postgres::Client;

/// What happened in an attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The plan's name.
    pub plan: String,
    /// The try.
    pub attempt: i32,
    /// The pinned fingerprint.
    pub fingerprint: String,
    /// Blue's server version, as `server_version_num`.
    pub blue_version: u32,
    /// What was copied, in all.
    pub copy: Option<Copied>,
    /// Each table that was copied, the biggest first.
    pub tables: Vec<CopiedTable>,
    /// Changes of blue's tables since the copy began that were gone on with, each in words.
    pub accepted_ddl: Vec<String>,
    /// In `mode: snapshot`, of which moment of blue green's copy is.
    pub moment: Option<Moment>,
    /// In `mode: snapshot`, what blue wrote after that moment and before the fence.
    pub lost: Option<Lost>,
    /// The fence: where it stands in blue's WAL, and what it took.
    pub fence: Option<Fenced>,
    /// How long clients were held, from PAUSE to RESUME, in milliseconds.
    pub held_ms: Option<u64>,
    /// Revocations, when the plan has rules.
    pub revocations: Option<RevocationTotals>,
    /// Every entry of the journal, oldest first.
    pub journal: Vec<Line>,
}

/// A table that was copied.
#[derive(Debug, Clone, Serialize)]
pub struct CopiedTable {
    /// Its name on blue.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes in COPY's format.
    pub bytes: u64,
    /// From its first byte to its last, in the try that ended it.
    pub seconds: f64,
}

/// One entry of the journal.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// When, by green's clock.
    pub at: jiff::Timestamp,
    /// Which holder's.
    pub epoch: i64,
    /// The step.
    pub step: String,
    /// What happened to it.
    pub event: JournalEvent,
}

/// Reads the report of the attempt that is on.
///
/// # Errors
/// [`Kind::Request`] when none is.
pub async fn open_and_read(plan: &Plan) -> Result<Report> {
    if plan.kind == MigrationKind::InPlace {
        return in_place::report(plan).await;
    }
    let (blue_info, green_info) = session::connections(plan)?;
    let green = session::reach(Side::Green, &green_info, "report").await?;
    // Only to tell keys that were issued anew; blue may be gone by now.
    let blue = connect::connect(&blue_info, "report").await.ok();
    let pin = session::begun(&green, plan).await?.ok_or_else(|| {
        Error::new(Kind::Request, format!("green holds no journal of the migration `{}`", plan.name))
            .hint("nothing has begun, or it is finished: `migrate finish` printed the last report")
    })?;
    read(&green, blue.as_ref(), plan, &pin).await
}

/// Reads the report of a pinned attempt. Without `blue`, keys that were issued anew count as still valid.
pub async fn read(green: &Client, blue: Option<&Client>, plan: &Plan, pin: &Pin) -> Result<Report> {
    let mut notes = crate::step::Notes::default();
    for entry in journal::read(green, pin.attempt).await? {
        match (entry.event, entry.note) {
            // What was taken back did not happen: a fence of a cutover that was called off is no evidence.
            (JournalEvent::Undone, _) => notes.remove(&entry.step),
            (_, Some(note)) => notes.put(entry.step, note),
            (_, None) => {}
        }
    }
    let revocations = match plan.revocations.is_empty() {
        true => None,
        false => Some(revocation::totals(green, blue, pin.attempt, &plan.revocations).await?),
    };
    Ok(Report {
        plan: plan.name.clone(),
        attempt: pin.attempt,
        fingerprint: pin.fingerprint.clone(),
        blue_version: pin.blue_facts.version_num,
        copy: notes.get(&copy_rows::id()),
        tables: copied_tables(green, pin.attempt).await?,
        accepted_ddl: blue_shape::list_accepted(green, pin.attempt).await?,
        moment: take_moment::read(green, pin.attempt).await?,
        lost: count_lost::read(green, pin.attempt).await?,
        fence: notes.get(&fence_blue::id()),
        held_ms: held_ms(&notes, &resume_clients::id()),
        revocations,
        journal: lines(green, pin.attempt).await?,
    })
}

async fn copied_tables(green: &Client, attempt: i32) -> Result<Vec<CopiedTable>> {
    let rows = green
        .query(include_str!("../../sql/journey/list_copied.sql"), &[&attempt])
        .await
        .doing(Kind::Server, || "cannot read the copy's ledger".into())?;
    let count = |row: &tokio_postgres::Row, column: &str| {
        u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
    };
    let table = |row: &tokio_postgres::Row| CopiedTable {
        table: row.get("table_name"),
        rows: count(row, "rows"),
        bytes: count(row, "bytes"),
        seconds: Duration::from_millis(count(row, "took_ms")).as_secs_f64(),
    };
    Ok(rows.iter().map(table).collect())
}

/// Every entry of an attempt's journal, oldest first.
pub async fn lines(client: &Client, attempt: i32) -> Result<Vec<Line>> {
    let rows = client
        .query(include_str!("../../sql/engine/read_journal.sql"), &[&attempt])
        .await
        .doing(Kind::Server, || "cannot read the journal".into())?;
    let line = |row: &tokio_postgres::Row| {
        let event: String = row.get("event");
        Some(Line {
            at: row.get("at"),
            epoch: row.get("epoch"),
            step: row.get("step"),
            event: JournalEvent::parse(&event)?,
        })
    };
    Ok(rows.iter().filter_map(line).collect())
}

fn held_ms(notes: &crate::step::Notes, resume: &StepId) -> Option<u64> {
    notes.get::<serde_json::Value>(resume)?.get("held_ms")?.as_u64()
}
