//! The net effect of a batch, set by set: rows to delete and to update are streamed into a landing table, new rows
//! straight into the followed one.
//!
//! In a table, deletes come first and inserts last, so that a value a row gives up is free for another. The order is
//! not blue's, so a unique constraint may refuse what blue did; the caller then writes the batch in blue's order.

use super::Writer;
use super::copy_text::{put_number, put_row};
use super::landing::{DELETED, Landing, LandingStatement, insert_sql, sets_something};
use super::pending::{About, Pending, in_time};
use crate::error::{Doing, Error, Kind, Result};
use crate::stream::change::Change;
use crate::stream::net::{Effect, NetEffect, NetRow, TableEffect};
use crate::stream::pgoutput::{Cell, Tuple};
use crate::stream::shape::Shape;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::{CopyInSink, Statement};

/// Fewer rows of a table than this are written one by one: the fixed price of a landing is higher.
pub(super) const LANDED_FROM_ROWS: usize = 32;
const COPIED_FROM_ROWS: usize = 64;

/// Rows are handed to the connection in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// How many landed rows each statement has to find.
#[derive(Default)]
struct Landed {
    deleted: u64,
    updated: BTreeMap<i16, u64>,
}

impl Writer {
    /// Writes it; answers that are still to come are looked at by the caller.
    pub(super) async fn write_net(&mut self, net: &NetEffect, changes: &[Change]) -> Result<()> {
        self.write_mapped(net, changes).await?;
        for table in net.tables.iter().filter(|table| table.shape.mapped.is_none()) {
            self.change_rows(table, changes).await?;
            self.add_rows(table, changes).await?;
        }
        if net.of_merged_alone {
            self.write_exact(changes.iter().filter(|change| !change.is_merged())).await?;
        }
        Ok(())
    }

    /// Deletes and updates.
    async fn change_rows(&mut self, table: &TableEffect, changes: &[Change]) -> Result<()> {
        let changed = |effect: &&Effect| !matches!(effect, Effect::Nothing | Effect::Insert(_));
        let rows = table.effects.iter().filter(changed).count();
        if rows == 0 {
            return Ok(());
        }
        if rows < LANDED_FROM_ROWS || !self.make_landing(&table.shape).await? {
            let all: Vec<&Effect> = table.effects.iter().filter(changed).collect();
            return self.change_one_by_one(&table.shape, all, changes).await;
        }
        let fill = self.landing_statement(&table.shape, LandingStatement::Fill).await?;
        let mut stream = RowStream::open(self, &fill, &table.shape).await?;
        let Some(landing) = self.landings.get(&table.shape) else {
            return Err(Error::new(Kind::Bug, "a landing table is gone"));
        };
        landing.used = true;
        let (landed, rest) = land(&mut stream, landing, table, changes).await?;
        let expected = landed.deleted + landed.updated.values().sum::<u64>();
        self.close(stream, &table.shape, expected).await?;

        if landed.deleted > 0 {
            self.run_set(&table.shape, LandingStatement::Delete, landed.deleted).await?;
        }
        for (number, rows) in landed.updated {
            self.run_set(&table.shape, LandingStatement::Update(number), rows).await?;
        }
        self.change_one_by_one(&table.shape, rest, changes).await
    }

    async fn change_one_by_one(
        &mut self,
        shape: &Arc<Shape>,
        effects: Vec<&Effect>,
        changes: &[Change],
    ) -> Result<()> {
        for effect in &effects {
            if let Effect::Delete(at) | Effect::Replace(at, _) = effect {
                self.delete_row(shape, row_before(changes, *at)?).await?;
            }
        }
        for effect in &effects {
            if let Effect::Update(row) = effect {
                let row = row_after(row, changes)?;
                self.update_row(shape, row, row).await?;
            }
        }
        Ok(())
    }

    /// Inserts.
    async fn add_rows(&mut self, table: &TableEffect, changes: &[Change]) -> Result<()> {
        let added = || {
            table.effects.iter().filter_map(|effect| match effect {
                Effect::Insert(row) | Effect::Replace(_, row) => Some(row),
                Effect::Nothing | Effect::Update(_) | Effect::Delete(_) => None,
            })
        };
        let rows = added().count();
        if rows < COPIED_FROM_ROWS {
            for row in added() {
                self.insert_row(&table.shape, row_after(row, changes)?).await?;
            }
            return self.flush_inserts().await;
        }
        let insert = self.insert_statement(&table.shape).await?;
        let mut stream = RowStream::open(self, &insert, &table.shape).await?;
        for row in added() {
            let row = row_after(row, changes)?;
            put_row(&mut stream.piece, table.shape.written().map(|at| &row.0[at]));
            stream.send_if_full().await?;
        }
        self.close(stream, &table.shape, rows as u64).await
    }

    /// Ends a stream of rows, all of which must have arrived.
    pub(super) async fn close(&mut self, stream: RowStream, shape: &Shape, expected: u64) -> Result<()> {
        match stream.finish(shape).await {
            Ok(rows) if rows == expected => Ok(()),
            Ok(rows) => Err(Error::new(
                Kind::Gate,
                format!("green took {rows} rows of {expected} streamed into {}", shape.green.plain()),
            )),
            // In a failed transaction everything fails; what failed first says why.
            Err(error) => self.pipeline.first_failure().await.and(Err(error)),
        }
    }

    pub(super) async fn run_set(
        &mut self,
        shape: &Arc<Shape>,
        which: LandingStatement,
        rows: u64,
    ) -> Result<()> {
        let statement = self.landing_statement(shape, which).await?;
        let client = Arc::clone(&self.client);
        let executed = async move { client.execute(&statement, &[]).await };
        let about = About::Set { table: shape.green.clone(), rows };
        self.pipeline.send(Pending::start(executed, about).await).await
    }

    /// Has an empty landing table for a table; false when none can be made.
    pub(super) async fn make_landing(&mut self, shape: &Shape) -> Result<bool> {
        if !self.landings.has_room(shape) {
            return Ok(false);
        }
        if let Some(landing) = self.landings.get(shape) {
            if landing.used {
                let clear = landing.clear();
                self.run_now(&clear, "cannot empty a landing table on green").await?;
            }
            return Ok(true);
        }
        let create = self.landings.add(shape);
        self.run_now("savepoint landing", "cannot set a savepoint on green").await?;
        let Err(error) = in_time(self.client.batch_execute(&create)).await? else { return Ok(true) };
        self.pipeline.first_failure().await?;
        tracing::warn!(%error, "green refuses temporary tables: rows are changed one by one, which is slower");
        self.run_now("rollback to savepoint landing", "cannot take a landing table back on green").await?;
        self.landings.refused = true;
        self.landings.forget_new();
        Ok(false)
    }

    async fn run_now(&mut self, sql: &str, problem: &str) -> Result<()> {
        in_time(self.client.batch_execute(sql)).await?.doing(Kind::Server, || problem.to_owned())
    }

    pub(super) async fn landing_statement(
        &mut self,
        shape: &Shape,
        which: LandingStatement,
    ) -> Result<Statement> {
        let problem = || format!("cannot prepare a set of changes of {} on green", shape.green.plain());
        let Some(landing) = self.landings.get(shape) else { return Err(Error::new(Kind::Bug, problem())) };
        if let Some(statement) = landing.statements.get(&which) {
            return Ok(statement.clone());
        }
        let sql = landing.sql(shape, which).ok_or_else(|| Error::new(Kind::Bug, problem()))?;
        let statement = match in_time(self.client.prepare(&sql)).await? {
            Ok(statement) => statement,
            Err(error) => {
                self.pipeline.first_failure().await?;
                return Err(error).doing(Kind::Server, problem);
            }
        };
        if let Some(landing) = self.landings.get(shape) {
            landing.statements.insert(which, statement.clone());
        }
        Ok(statement)
    }

    async fn insert_statement(&mut self, shape: &Shape) -> Result<Statement> {
        let id = shape.id();
        if let Some(statement) = self.landings.inserts.get(&id) {
            return Ok(statement.clone());
        }
        match in_time(self.client.prepare(&insert_sql(shape))).await? {
            Ok(statement) => {
                self.landings.inserts.insert(id, statement.clone());
                Ok(statement)
            }
            Err(error) => {
                self.pipeline.first_failure().await?;
                Err(error).doing(Kind::Server, || {
                    format!("cannot prepare to stream rows into {} on green", shape.green.plain())
                })
            }
        }
    }
}

/// Streams the changed rows of a table into its landing; gives what is left to be changed one by one.
async fn land<'t>(
    stream: &mut RowStream,
    landing: &mut Landing,
    table: &'t TableEffect,
    changes: &[Change],
) -> Result<(Landed, Vec<&'t Effect>)> {
    let shape = &table.shape;
    let (mut landed, mut rest) = (Landed::default(), Vec::new());
    for effect in &table.effects {
        match effect {
            Effect::Nothing | Effect::Insert(_) => continue,
            Effect::Delete(at) | Effect::Replace(at, _) => {
                let before = row_before(changes, *at)?;
                let cell = |at: usize| if shape.key().contains(&at) { &before.0[at] } else { &Cell::Null };
                put_number(&mut stream.piece, DELETED);
                stream.piece.put_u8(b'\t');
                put_row(&mut stream.piece, shape.written().map(cell));
                landed.deleted += 1;
            }
            Effect::Update(row) => {
                let row = row_after(row, changes)?;
                let unchanged: Vec<bool> = row.0.iter().map(|cell| *cell == Cell::Unchanged).collect();
                let number = if sets_something(shape, &unchanged) { landing.number(unchanged) } else { None };
                let Some(number) = number else {
                    rest.push(effect);
                    continue;
                };
                put_number(&mut stream.piece, number);
                stream.piece.put_u8(b'\t');
                put_row(&mut stream.piece, shape.written().map(|at| &row.0[at]));
                *landed.updated.entry(number).or_default() += 1;
            }
        }
        stream.send_if_full().await?;
    }
    Ok((landed, rest))
}

pub(super) fn row_after<'c>(row: &'c NetRow, changes: &'c [Change]) -> Result<&'c Tuple> {
    row.tuple(changes).ok_or_else(|| Error::new(Kind::Bug, "an effect has no row"))
}

fn row_before(changes: &[Change], at: usize) -> Result<&Tuple> {
    changes
        .get(at)
        .and_then(Change::before)
        .ok_or_else(|| Error::new(Kind::Bug, "an effect has no row before"))
}

/// A COPY into green that is under way.
pub(super) struct RowStream {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    pub piece: BytesMut,
}

impl RowStream {
    /// Begins one. When green refuses that, the connection is of no use any more: the client library ends a COPY that
    /// never began with a message of its own, and takes the answer to it for the answer to the next statement. So
    /// whatever was sent before must have gone well.
    pub async fn open(writer: &mut Writer, statement: &Statement, shape: &Shape) -> Result<RowStream> {
        writer.pipeline.first_failure().await?;
        match taken(writer.client.copy_in(statement), shape).await {
            Ok(sink) => {
                Ok(RowStream { sink: Box::pin(sink), piece: BytesMut::with_capacity(PIECE_BYTES + 4096) })
            }
            Err(error) => {
                writer.spent = true;
                Err(error)
            }
        }
    }

    pub async fn send_if_full(&mut self) -> Result<()> {
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.piece.reserve(PIECE_BYTES + 4096);
        let sent = self.sink.send(piece);
        in_time(sent).await?.doing(Kind::Server, || "green stopped taking rows".into())
    }

    async fn finish(mut self, shape: &Shape) -> Result<u64> {
        let last = self.piece.split().freeze();
        let finished = async {
            if !last.is_empty() {
                self.sink.feed(last).await?;
            }
            self.sink.as_mut().finish().await
        };
        taken(finished, shape).await
    }
}

async fn taken<T>(
    answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    shape: &Shape,
) -> Result<T> {
    let refused = || format!("green refuses rows streamed for {}", shape.green.plain());
    in_time(answer).await?.doing(Kind::Server, refused)
}
