//! Blue's counters of written rows: what a copy that does not follow is missing.

use crate::error::{Doing, Kind, Result};
use crate::facts::{TableWrites, Writes};
use crate::pg::name::TableName;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// What blue counted.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// For how long, in milliseconds; `None` when it does not tell.
    pub for_ms: Option<u64>,
    /// `track_counts` is off, so that nothing is counted.
    pub is_off: bool,
    /// Each table that was asked for.
    pub tables: Vec<TableWrites>,
}

impl Counted {
    /// What came after an earlier look, tables without any left out; and those whose counters began anew, or do not count.
    pub fn since(&self, earlier: &[TableWrites]) -> (Vec<TableWrites>, Vec<TableName>) {
        let before: BTreeMap<&TableName, Writes> =
            earlier.iter().map(|table| (&table.table, table.writes)).collect();
        let (mut came, mut unknown) = (Vec::new(), Vec::new());
        for TableWrites { table, writes } in &self.tables {
            let Some(before) = before.get(table) else { continue };
            match writes.since(*before).filter(|_| !self.is_off) {
                Some(writes) if writes.total() > 0 => {
                    came.push(TableWrites { table: table.clone(), writes });
                }
                Some(_) => {}
                None => unknown.push(table.clone()),
            }
        }
        (came, unknown)
    }
}

/// Reads the counters of tables. A session's own counts come in up to some seconds late.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(blue: &Client, tables: &[TableName]) -> Result<Counted> {
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    let rows = blue
        .query(include_str!("../../sql/facts/read_writes.sql"), &[&names])
        .await
        .doing(Kind::Server, || "cannot read blue's counters of written rows".into())?;
    let count = |row: &tokio_postgres::Row, column: &str| {
        u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
    };
    let for_ms = rows
        .first()
        .and_then(|row| row.get::<_, Option<i64>>("counted_ms"))
        .map(|ms| u64::try_from(ms).unwrap_or(0));
    let is_off = rows.first().is_some_and(|row| !row.get::<_, bool>("counts"));
    let tables = rows.iter().zip(tables).map(|(row, table)| TableWrites {
        table: table.clone(),
        writes: Writes {
            inserted: count(row, "inserted"),
            updated: count(row, "updated"),
            deleted: count(row, "deleted"),
        },
    });
    Ok(Counted { for_ms, is_off, tables: tables.collect() })
}
