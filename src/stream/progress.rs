//! The progress row on green: how far a slot's changes are in.

use crate::error::{Doing, Error, Kind, Result};
use crate::pg::lsn::Lsn;
use tokio_postgres::GenericClient;

/// How far a slot's changes are on green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// End of the newest commit record whose transaction is in, or a later position with nothing for us in between.
    pub position: Lsn,
    /// Content of the newest marker that is in.
    pub marker: Option<String>,
    /// Blue transactions applied so far.
    pub transactions: u64,
    /// Row changes applied so far.
    pub rows: u64,
    /// Commit time of the newest transaction that is in, by blue's clock, in microseconds since 1970.
    pub newest_micros: Option<i64>,
}

/// Reads the progress; `None` when no copy handed over to this slot.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(green: &impl GenericClient, slot: &str) -> Result<Option<Progress>> {
    let row = green
        .query_opt(include_str!("../../sql/stream/read_progress.sql"), &[&slot])
        .await
        .doing(Kind::Server, || format!("cannot read the progress of slot `{slot}` on green"))?;
    let Some(row) = row else { return Ok(None) };
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
    Ok(Some(Progress {
        position: parse_lsn(row.get(0))?,
        marker: row.get(1),
        transactions: count(2),
        rows: count(3),
        newest_micros: row.get(4),
    }))
}

/// A position a server gave as text.
pub(super) fn parse_lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|why: String| Error::new(Kind::Bug, why))
}
