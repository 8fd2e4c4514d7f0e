//! Green's record of the copy, a row for each table, for `status` and the report.

use super::{lease, rows::CopySpec};
use crate::engine::journal::lease_lost;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use std::time::Duration;
use tokio_postgres::{Client, types::ToSql};

/// Marks a table's row in the caller's transaction.
pub(super) const MARK_TABLE: &str = include_str!("../../sql/copy/mark_table.sql");
const RESET_TABLES: &str = include_str!("../../sql/copy/reset_tables.sql");
/// How long green may take for one row of it.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const ADVANCE_TABLE: &str = include_str!("../../sql/copy/advance_table.sql");

/// Writes progress through a connection of its own, so that others see it while the rows' transaction is open.
pub(super) struct Ledger {
    client: Client,
    attempt: i32,
    epoch: i64,
}

/// What the server says of a load that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Green still takes rows.
    Running,
    /// Green has ended the COPY by itself: it failed, and finishing it will tell why.
    Ended,
}

impl Ledger {
    /// Sets every table of the attempt to `waiting`.
    pub(super) async fn open(spec: &CopySpec) -> Result<Ledger> {
        let client = lease::session(&spec.green, "copy ledger", spec.epoch).await?;
        lease::begin(&client, spec.epoch).await?;
        let names: Vec<String> = spec.tables.iter().map(|table| table.green.plain()).collect();
        client
            .execute(RESET_TABLES, &[&spec.attempt, &names])
            .await
            .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
        lease::commit(&client, "the copy's ledger").await?;
        Ok(Ledger { client, attempt: spec.attempt, epoch: spec.epoch })
    }

    /// Writes how far a table is, and asks whether green's backend `pid` still loads.
    ///
    /// # Errors
    /// [`Kind::Lease`] when another epoch took over.
    pub(super) async fn advance(&self, table: &TableName, rows: u64, bytes: u64, pid: i32) -> Result<Load> {
        self.write(table, "copying", rows, bytes, pid).await
    }

    /// Writes that all pieces of a table are there.
    ///
    /// # Errors
    /// As [`Ledger::advance`].
    pub(super) async fn finish(&self, table: &TableName, rows: u64, bytes: u64) -> Result<()> {
        self.write(table, "done", rows, bytes, 0).await.map(|_| ())
    }

    /// One statement, since workers share the connection.
    async fn write(&self, table: &TableName, state: &str, rows: u64, bytes: u64, pid: i32) -> Result<Load> {
        let values: [&(dyn ToSql + Sync); 7] =
            [&self.attempt, &table.plain(), &state, &clamp(rows), &clamp(bytes), &self.epoch, &pid];
        let row = tokio::time::timeout(ANSWER_MAX, self.client.query_one(ADVANCE_TABLE, &values))
            .await
            .map_err(|_| Error::new(Kind::Deadline, "green does not take the copy's ledger"))?
            .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
        if !row.get::<_, bool>("ours") {
            return Err(lease_lost());
        }
        Ok(if row.get("loading") { Load::Running } else { Load::Ended })
    }

    /// Commits durably: with it, every commit before it is on green's disk.
    pub(super) async fn seal(&self) -> Result<()> {
        let what = "the end of the copy";
        self.client
            .batch_execute("set synchronous_commit = on")
            .await
            .doing(Kind::Server, || "synchronous_commit cannot be set on green".into())?;
        lease::begin(&self.client, self.epoch).await?;
        self.client
            .execute(
                "update migrate.copy_table set changed_at = clock_timestamp() where attempt = $1",
                &[&self.attempt],
            )
            .await
            .doing(Kind::Server, || format!("{what} cannot be written on green"))?;
        lease::commit(&self.client, what).await
    }
}

/// Counters fit Postgres' bigint for any table that exists.
pub(super) fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
