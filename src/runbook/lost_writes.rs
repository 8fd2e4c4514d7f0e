//! What `mode: snapshot` loses, table by table, for those who read the plan. Pure; counters are of the moment they were read,
//! so none of it is in the fingerprint.

use crate::facts::{Facts, TableWrites, Writes, per_minute};
use crate::pg::name::TableName;
use crate::plan::Plan;
use serde::Serialize;

/// The writes of blue that green would not get, were the copy's moment now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LostWrites {
    /// How long the second look came after the first, in seconds.
    pub measured_s: f64,
    /// How long blue has counted, in seconds; `None` when it does not tell, and then there is no average.
    pub counted_s: Option<f64>,
    /// The busiest first.
    pub tables: Vec<LostTable>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LostTable {
    /// Its name on blue.
    pub table: String,
    /// Rows written a minute, as measured just now.
    pub per_minute_now: f64,
    /// Rows written a minute, over all the time that blue has counted.
    pub per_minute_on_average: Option<f64>,
    /// All that blue has counted.
    pub counted: Writes,
    /// The rules that carry revocations of this table.
    pub carried_by: Vec<String>,
}

/// The account; `None` when the plan loses nothing, or nobody has looked.
pub fn account(plan: &Plan, facts: &Facts) -> Option<LostWrites> {
    let seen = facts.writes.as_ref().filter(|_| plan.is_snapshot())?;
    let measured = |table: &TableName| {
        seen.measured.iter().find(|one| one.table == *table).map_or(0, |one| one.writes.total())
    };
    let mut tables: Vec<LostTable> = seen
        .counted
        .iter()
        .map(|TableWrites { table, writes }| LostTable {
            table: table.plain(),
            per_minute_now: per_minute(measured(table), seen.measured_ms),
            per_minute_on_average: seen.counted_ms.map(|ms| per_minute(writes.total(), ms)),
            counted: *writes,
            carried_by: plan
                .revocations
                .iter()
                .filter(|rule| rule.table == *table)
                .map(|rule| rule.name.clone())
                .collect(),
        })
        .collect();
    tables.sort_by(|a, b| {
        b.per_minute_now
            .total_cmp(&a.per_minute_now)
            .then_with(|| b.counted.total().cmp(&a.counted.total()))
            .then_with(|| a.table.cmp(&b.table))
    });
    let seconds = |ms: u64| ms as f64 / 1000.0;
    Some(LostWrites {
        measured_s: seconds(seen.measured_ms),
        counted_s: seen.counted_ms.map(seconds),
        tables,
    })
}
