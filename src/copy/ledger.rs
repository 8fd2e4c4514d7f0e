//! Green's record of the copy, a row for each table, for `status` and the report.

use super::{
    lease,
    moment::Moment,
    piece::TableRun,
    rows::{CopySpec, CopyTotals},
};
use crate::engine::journal::lease_lost;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::{Client, types::ToSql};

const MARK_TABLE: &str = include_str!("../../sql/copy/mark_table.sql");
const MARK_CHUNK: &str = include_str!("../../sql/copy/mark_chunk.sql");
const LIST_WHOLE: &str = include_str!("../../sql/copy/list_whole.sql");
const COUNT_WHOLE: &str = include_str!("../../sql/copy/count_whole.sql");
const SUM_COPIED: &str = include_str!("../../sql/copy/sum_copied.sql");
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
    /// Sets every table of the attempt to `waiting` that is not whole.
    ///
    /// An earlier copy of this process may have been dropped while a COMMIT of it was on its way: what that brings must be in the
    /// ledger before we read it. Each of its transactions holds the lease's row, so we wait for that.
    pub(super) async fn open(spec: &CopySpec) -> Result<Ledger> {
        let client = lease::session(&spec.green, "copy ledger", spec.epoch).await?;
        lease::begin(&client, spec.epoch).await?;
        client
            .batch_execute("set local lock_timeout = '60s'; select from migrate.lease for update")
            .await
            .doing(Kind::Deadline, || {
                "a session of an earlier copy has not ended on green within 60 s".into()
            })
            .map_err(|error| {
                error.hint("look in green's pg_stat_activity for sessions of `migrate`; end them, then replicate again")
            })?;
        // A table that is split is there for each part.
        let names: BTreeSet<String> = spec.tables.iter().map(|table| table.blue.plain()).collect();
        let names: Vec<String> = names.into_iter().collect();
        client
            .execute(RESET_TABLES, &[&spec.attempt, &names])
            .await
            .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
        lease::commit(&client, "the copy's ledger").await?;
        Ok(Ledger { client, attempt: spec.attempt, epoch: spec.epoch })
    }

    /// The tables that are whole already, by their plain names on blue.
    pub(super) async fn whole(&self) -> Result<BTreeSet<String>> {
        list_whole(&self.client, self.attempt).await
    }

    /// Writes how far a table is, and asks whether green's backend `pid` still loads. One statement, since workers share
    /// the connection.
    ///
    /// # Errors
    /// [`Kind::Lease`] when another epoch took over.
    pub(super) async fn advance(&self, table: &TableName, rows: u64, bytes: u64, pid: i32) -> Result<Load> {
        let values: [&(dyn ToSql + Sync); 6] =
            [&self.attempt, &table.plain(), &clamp(rows), &clamp(bytes), &self.epoch, &pid];
        let row = tokio::time::timeout(ANSWER_MAX, self.client.query_one(ADVANCE_TABLE, &values))
            .await
            .map_err(|_| Error::new(Kind::Deadline, "green does not take the copy's ledger"))?
            .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
        if !row.get::<_, bool>("ours") {
            return Err(lease_lost());
        }
        Ok(if row.get("loading") { Load::Running } else { Load::Ended })
    }

    /// Commits durably: with it, every commit before it is on green's disk. Gives what the copy comes to.
    pub(super) async fn seal(&self) -> Result<CopyTotals> {
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
        let row = self
            .client
            .query_one(SUM_COPIED, &[&self.attempt])
            .await
            .doing(Kind::Server, || "the copy's ledger cannot be read on green".into())?;
        lease::commit(&self.client, what).await?;
        let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        Ok(CopyTotals { tables: count("tables"), rows: count("rows"), bytes: count("bytes") })
    }
}

/// The tables that an attempt has copied whole, by their plain names on blue.
///
/// # Errors
/// [`Kind::Server`].
pub async fn list_whole(green: &Client, attempt: i32) -> Result<BTreeSet<String>> {
    let rows = green
        .query(LIST_WHOLE, &[&attempt])
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be read on green".into())?;
    Ok(rows.iter().map(|row| row.get("table_name")).collect())
}

/// How many tables, and ranges of tables, an attempt has copied whole.
///
/// # Errors
/// [`Kind::Server`].
pub async fn count_whole(green: &Client, attempt: i32) -> Result<u64> {
    let row = green
        .query_one(COUNT_WHOLE, &[&attempt])
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be read on green".into())?;
    Ok(u64::try_from(row.get::<_, i64>("whole")).unwrap_or_default())
}

/// Marks a table as whole, in the transaction that is open on green; without a moment when its ranges have their own.
pub(super) async fn mark_whole(
    green: &Client,
    attempt: i32,
    run: &TableRun,
    moment: Option<&Moment>,
) -> Result<()> {
    let (xids, seen_lsn) = (moment.map(|moment| &moment.xids), moment.map(|moment| &moment.seen_lsn));
    let (rows, bytes) = run.counts.so_far();
    let took_ms = u64::try_from(run.counts.took().as_millis()).unwrap_or(u64::MAX);
    let values: [&(dyn ToSql + Sync); 7] =
        [&attempt, &run.table().blue.plain(), &clamp(rows), &clamp(bytes), &xids, &seen_lsn, &clamp(took_ms)];
    green
        .execute(MARK_TABLE, &values)
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
    Ok(())
}

/// Marks a range of a table's key as whole, in the transaction that is open on green.
pub(super) async fn mark_chunk(
    green: &Client,
    attempt: i32,
    table: &TableName,
    number: i32,
    (rows, bytes): (u64, u64),
    moment: &Moment,
) -> Result<()> {
    let values: [&(dyn ToSql + Sync); 7] =
        [&attempt, &table.plain(), &number, &clamp(rows), &clamp(bytes), &moment.xids, &moment.seen_lsn];
    let marked = green
        .execute(MARK_CHUNK, &values)
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
    match marked {
        1 => Ok(()),
        _ => Err(Error::new(Kind::Bug, format!("range {number} of {} is not in the ledger", table.plain()))),
    }
}

/// Forgets the ranges of a table, in the transaction that is open on green.
pub(super) async fn forget_chunks(green: &Client, attempt: i32, table: &TableName) -> Result<()> {
    green
        .execute(
            "delete from migrate.copy_chunk where attempt = $1 and table_name = $2",
            &[&attempt, &table.plain()],
        )
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be written on green".into())?;
    Ok(())
}

/// Counters fit Postgres' bigint for any table that exists.
fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
