//! How much is written to the tables that a plan copies: two looks at blue's counters.

use crate::error::Result;
use crate::facts::{ServerFacts, WritesSeen};
use crate::pg::name::TableName;
use crate::plan::Plan;
use crate::runbook::tables;
use crate::step::writes;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Between the two looks. A session of an application's tells the server what it wrote once a second at most.
const APART: Duration = Duration::from_secs(5);

/// Looks twice; `None` when blue does not count (`track_counts` is off).
///
/// # Errors
/// [`crate::error::Kind::Server`].
pub(super) async fn measure(plan: &Plan, blue: &Client, facts: &ServerFacts) -> Result<Option<WritesSeen>> {
    let tables: BTreeSet<TableName> =
        tables::replicated(plan, facts).into_iter().map(|table| table.blue).collect();
    let tables: Vec<TableName> = tables.into_iter().collect();
    let began = Instant::now();
    let first = writes::read(blue, &tables).await?;
    if first.is_off {
        return Ok(None);
    }
    tokio::time::sleep(APART).await;
    let second = writes::read(blue, &tables).await?;
    let measured_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (measured, _) = second.since(&first.tables);
    Ok(Some(WritesSeen { counted_ms: second.for_ms, counted: second.tables, measured_ms, measured }))
}
