//! The net effect on mapped tables, set by set. All of its rows land, new ones too, since green computes from them; with
//! a condition green also says which of them it has, and how many each statement must find.

use super::Writer;
use super::copy_text::{put_number, put_row};
use super::landing::{DELETED, INSERTED, Landing, LandingStatement};
use super::pending::in_time;
use super::sets::{LANDED_FROM_ROWS, RowStream, row_after};
use crate::error::{Doing, Error, Kind, Result};
use crate::stream::change::Change;
use crate::stream::net::{Effect, NetEffect, TableEffect};
use crate::stream::pgoutput::{Cell, Tuple};
use crate::stream::shape::{Mapped, Shape};
use bytes::BufMut;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many rows each statement has to find.
#[derive(Default)]
struct Expected {
    rows_landed: u64,
    deleted: u64,
    inserted: u64,
    updated: BTreeMap<i16, u64>,
}

/// How a table's net effect is written.
enum Way {
    /// One by one.
    Rows,
    /// From its landing, where all of it is but a few updates.
    Landed { expected: Expected, rest: Vec<usize> },
}

/// A table's net effect, and its way.
struct Work<'n> {
    table: &'n TableEffect,
    way: Way,
}

impl Writer {
    /// Writes the net effects on mapped tables; answers that are still to come are looked at by the caller.
    ///
    /// Deletes come first and inserts last, in tables that are merged over all of them: so a key that one of blue's tables
    /// gave up is free when another takes it, in whatever order blue did that.
    pub(super) async fn write_mapped(&mut self, net: &NetEffect, changes: &[Change]) -> Result<()> {
        let mut merged = Vec::new();
        for table in &net.tables {
            let Some(mapped) = &table.shape.mapped else { continue };
            let work = self.begin_mapped(table, mapped, changes).await?;
            if table.shape.is_merged() {
                merged.push(work);
            } else {
                self.write_phases(vec![work], changes).await?;
            }
        }
        self.write_phases(merged, changes).await
    }

    async fn write_phases(&mut self, works: Vec<Work<'_>>, changes: &[Change]) -> Result<()> {
        for work in &works {
            self.delete_mapped(work, changes).await?;
        }
        for work in &works {
            self.update_mapped(work, changes).await?;
        }
        for work in &works {
            self.insert_mapped(work, changes).await?;
        }
        Ok(())
    }

    /// Lands a table's rows, when there are enough of them.
    async fn begin_mapped<'n>(
        &mut self,
        table: &'n TableEffect,
        mapped: &Mapped,
        changes: &[Change],
    ) -> Result<Work<'n>> {
        let shape = &table.shape;
        let rows = table.effects.iter().filter(|effect| **effect != Effect::Nothing).count();
        if rows < LANDED_FROM_ROWS || !self.make_landing(shape).await? {
            return Ok(Work { table, way: Way::Rows });
        }
        let fill = self.landing_statement(shape, LandingStatement::Fill).await?;
        let mut stream = RowStream::open(self, &fill, shape).await?;
        let Some(landing) = self.landings.get(shape) else {
            return Err(Error::new(Kind::Bug, "a landing table is gone"));
        };
        landing.used = true;
        let (mut expected, rest) = land(&mut stream, landing, table, mapped, changes).await?;
        self.close(stream, shape, expected.rows_landed).await?;
        if mapped.fitted.condition.is_some() {
            expected = self.count_chosen(shape).await?;
        }
        Ok(Work { table, way: Way::Landed { expected, rest } })
    }

    async fn delete_mapped(&mut self, work: &Work<'_>, changes: &[Change]) -> Result<()> {
        let shape = &work.table.shape;
        match &work.way {
            Way::Landed { expected, .. } if expected.deleted > 0 => {
                self.run_set(shape, LandingStatement::Delete, expected.deleted).await
            }
            Way::Landed { .. } => Ok(()),
            Way::Rows => {
                for (at, effect) in work.table.effects.iter().enumerate() {
                    if let Effect::Delete(_) | Effect::Replace(..) = effect {
                        self.delete_row(shape, row_on_green(work.table, at, changes)?).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn update_mapped(&mut self, work: &Work<'_>, changes: &[Change]) -> Result<()> {
        let Work { table, way } = work;
        match way {
            Way::Landed { expected, rest } => {
                for (number, rows) in &expected.updated {
                    self.run_set(&table.shape, LandingStatement::Update(*number), *rows).await?;
                }
                self.update_rows(table, rest.iter().copied(), changes).await
            }
            Way::Rows => self.update_rows(table, 0..table.effects.len(), changes).await,
        }
    }

    async fn update_rows(
        &mut self,
        table: &TableEffect,
        which: impl Iterator<Item = usize>,
        changes: &[Change],
    ) -> Result<()> {
        for at in which {
            if let Effect::Update(row) = &table.effects[at] {
                let before = row_on_green(table, at, changes)?;
                self.update_row(&table.shape, before, row_after(row, changes)?).await?;
            }
        }
        Ok(())
    }

    async fn insert_mapped(&mut self, work: &Work<'_>, changes: &[Change]) -> Result<()> {
        let shape = &work.table.shape;
        match &work.way {
            Way::Landed { expected, .. } if expected.inserted > 0 => {
                self.run_set(shape, LandingStatement::Insert, expected.inserted).await
            }
            Way::Landed { .. } => Ok(()),
            Way::Rows => {
                for effect in &work.table.effects {
                    if let Effect::Insert(row) | Effect::Replace(_, row) = effect {
                        self.insert_row(shape, row_after(row, changes)?).await?;
                    }
                }
                self.flush_inserts().await
            }
        }
    }

    /// What the condition makes of the landed rows.
    async fn count_chosen(&mut self, shape: &Arc<Shape>) -> Result<Expected> {
        let statement = self.landing_statement(shape, LandingStatement::Count).await?;
        let row = match in_time(self.client.query_one(&statement, &[])).await? {
            Ok(row) => row,
            Err(error) => {
                self.pipeline.first_failure().await?;
                return Err(error)
                    .doing(Kind::Server, || format!("green cannot judge rows of {}", shape.green.plain()));
            }
        };
        let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        let updated = [(0, count(1))].into_iter().filter(|(_, rows)| *rows > 0).collect();
        Ok(Expected { rows_landed: 0, deleted: count(0), inserted: count(2), updated })
    }
}

/// Streams the rows before and after into the landing; gives what is left to be written one by one.
async fn land(
    stream: &mut RowStream,
    landing: &mut Landing,
    table: &TableEffect,
    mapped: &Mapped,
    changes: &[Change],
) -> Result<(Expected, Vec<usize>)> {
    let (mut expected, mut rest) = (Expected::default(), Vec::new());
    let before_sources = mapped.fitted.sources_before();
    let mut put = |stream: &mut RowStream, way: i16, before: Option<&Tuple>, after: Option<&Tuple>| {
        let cell = |row: Option<&Tuple>, source: usize| {
            row.and_then(|row| row.0.get(mapped.sources[source])).cloned().unwrap_or(Cell::Null)
        };
        let cells: Vec<Cell> = (0..mapped.sources.len())
            .map(|source| cell(after, source))
            .chain(before_sources.iter().map(|source| cell(before, *source)))
            .collect();
        put_number(&mut stream.piece, way);
        stream.piece.put_u8(b'\t');
        put_row(&mut stream.piece, cells.iter());
        expected.rows_landed += 1;
        match way {
            DELETED => expected.deleted += 1,
            INSERTED => expected.inserted += 1,
            number => *expected.updated.entry(number).or_default() += 1,
        }
    };
    for (at, effect) in table.effects.iter().enumerate() {
        match effect {
            Effect::Nothing => continue,
            Effect::Insert(row) => put(stream, INSERTED, None, Some(row_after(row, changes)?)),
            Effect::Delete(_) => put(stream, DELETED, Some(row_on_green(table, at, changes)?), None),
            Effect::Replace(_, row) => {
                put(stream, DELETED, Some(row_on_green(table, at, changes)?), None);
                put(stream, INSERTED, None, Some(row_after(row, changes)?));
            }
            Effect::Update(row) => {
                let row = row_after(row, changes)?;
                match number(landing, mapped, row) {
                    Some(number) => put(stream, number, Some(row_on_green(table, at, changes)?), Some(row)),
                    None => rest.push(at),
                }
            }
        }
        stream.send_if_full().await?;
    }
    Ok((expected, rest))
}

/// The number of the update that leaves out what was not sent; none when that is better done by itself.
fn number(landing: &mut Landing, mapped: &Mapped, row: &Tuple) -> Option<i16> {
    let mut unchanged = vec![false; row.0.len()];
    for at in &mapped.sources {
        unchanged[*at] = row.0[*at] == Cell::Unchanged;
    }
    // The one statement that a condition leaves is over whole rows.
    if mapped.fitted.condition.is_some() && unchanged.contains(&true) {
        return None;
    }
    let sets = |at: &usize| !mapped.fitted.outputs[*at].identity_always;
    if !mapped.outputs(&unchanged).iter().any(sets) {
        return None;
    }
    landing.number(unchanged)
}

/// The row that green has of a key, as blue told it: before the first change of the batch.
fn row_on_green<'c>(table: &TableEffect, at: usize, changes: &'c [Change]) -> Result<&'c Tuple> {
    let first = table.firsts.get(at).and_then(|first| changes.get(*first));
    first.and_then(Change::before).ok_or_else(|| Error::new(Kind::Bug, "an effect has no row before"))
}
