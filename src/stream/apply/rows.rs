//! Changes row by row, as statements with text parameters.

use super::Writer;
use super::pending::{About, Pending, Row, in_time};
use crate::error::{Doing, Error, Kind, Result};
use crate::stream::change::{Change, Emptying};
use crate::stream::pgoutput::{Cell, OldTuple, Tuple};
use crate::stream::shape::{From, Shape, Written};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tokio_postgres::Statement;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// Rows of one insert statement: as many as are waiting, in one of these sizes.
const INSERT_SIZES: [usize; 3] = [64, 8, 1];

/// The protocol's limit of parameters in a statement.
const PARAMETERS_MAX: usize = 65_535;

/// Which statement of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum StatementKey {
    Insert(usize),
    /// By the columns whose new cell was not sent.
    Update(Vec<bool>),
    /// An update that only a delete and an insert can do; by the same.
    Replace(Vec<bool>),
    Delete,
}

/// A statement on green, and where its parameters come from.
pub(super) struct Prepared {
    statement: Statement,
    parameters: Vec<From>,
}

/// Consecutive inserts into one table that were not sent yet.
pub(super) struct InsertRun {
    shape: Arc<Shape>,
    rows: usize,
    values: Vec<TextCell>,
}

/// A value as a parameter in text: green's own input functions read what blue's output functions wrote.
pub(super) struct TextCell(Option<Bytes>);

impl TextCell {
    fn of(cell: &Cell) -> TextCell {
        match cell {
            Cell::Text(text) => TextCell(Some(text.clone())),
            Cell::Null | Cell::Unchanged => TextCell(None),
        }
    }
}

impl std::convert::From<Option<String>> for TextCell {
    fn from(text: Option<String>) -> TextCell {
        TextCell(text.map(Bytes::from))
    }
}

// Values may be secrets.
impl fmt::Debug for TextCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextCell")
    }
}

impl ToSql for TextCell {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(text) => {
                out.extend_from_slice(text);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

impl Writer {
    /// Writes changes one by one, in their order.
    pub(super) async fn write_exact(&mut self, changes: impl Iterator<Item = &Change>) -> Result<()> {
        for change in changes {
            if !matches!(change, Change::Insert { .. }) {
                self.flush_inserts().await?;
            }
            match change {
                Change::Insert { shape, new } => self.insert_row(shape, new).await?,
                Change::Update { shape, old, new } => {
                    self.update_row(shape, old.as_ref().map_or(new, OldTuple::tuple), new).await?;
                }
                Change::Delete { shape, old } => self.delete_row(shape, old.tuple()).await?,
                Change::Truncate { shapes, emptying, restart_identity } => {
                    self.empty(shapes, *emptying, *restart_identity).await?;
                }
            }
        }
        self.flush_inserts().await
    }

    pub(super) async fn insert_row(&mut self, shape: &Arc<Shape>, new: &Tuple) -> Result<()> {
        let full = |run: &InsertRun| run.shape.id() != shape.id() || run.rows >= INSERT_SIZES[0];
        if self.inserts.as_ref().is_some_and(full) {
            self.flush_inserts().await?;
        }
        let run = self.inserts.get_or_insert_with(|| InsertRun {
            shape: Arc::clone(shape),
            rows: 0,
            values: Vec::new(),
        });
        run.rows += 1;
        run.values.extend(shape.written().map(|at| TextCell::of(&new.0[at])));
        Ok(())
    }

    /// Sends the inserts that wait for company.
    pub(super) async fn flush_inserts(&mut self) -> Result<()> {
        let Some(InsertRun { shape, rows, values }) = self.inserts.take() else { return Ok(()) };
        let width = shape.written().count();
        let mut values = values.into_iter();
        let mut rest = rows;
        while rest > 0 {
            let fits = |size: &&usize| {
                **size <= rest && **size * width <= PARAMETERS_MAX && (width > 0 || **size == 1)
            };
            let size = INSERT_SIZES.iter().find(fits).copied().unwrap_or(1);
            rest -= size;
            let prepared = self.prepared(&shape, StatementKey::Insert(size)).await?;
            let now: Vec<TextCell> = values.by_ref().take(size * width).collect();
            let about = About::Insert { table: shape.green.clone(), rows: size as u64 };
            self.execute(prepared, now, about).await?;
        }
        Ok(())
    }

    /// `before` tells the row apart.
    pub(super) async fn update_row(&mut self, shape: &Arc<Shape>, before: &Tuple, new: &Tuple) -> Result<()> {
        let unchanged: Vec<bool> = new.0.iter().map(|cell| *cell == Cell::Unchanged).collect();
        let key = match shape.changes_identity(before, new) {
            true => StatementKey::Replace(unchanged),
            false => StatementKey::Update(unchanged),
        };
        let prepared = self.prepared(shape, key).await?;
        let values = values(&prepared.parameters, before, new)?;
        self.execute(prepared, values, About::Update(row(shape, before))).await
    }

    pub(super) async fn delete_row(&mut self, shape: &Arc<Shape>, before: &Tuple) -> Result<()> {
        let prepared = self.prepared(shape, StatementKey::Delete).await?;
        let values = values(&prepared.parameters, before, before)?;
        self.execute(prepared, values, About::Delete(row(shape, before))).await
    }

    async fn empty(
        &mut self,
        shapes: &[Arc<Shape>],
        emptying: Emptying,
        restart_identity: bool,
    ) -> Result<()> {
        refuse_others_rows(shapes)?;
        let names: Vec<_> =
            shapes.iter().map(|shape| shape.green.to_string()).collect::<BTreeSet<_>>().into_iter().collect();
        let restart = if restart_identity { " restart identity" } else { "" };
        let sql = match emptying {
            Emptying::Restrict => format!("truncate table {}{restart}", names.join(", ")),
            Emptying::Cascade => format!("truncate table {}{restart} cascade", names.join(", ")),
            // Sequences are carried at the cutover in any case.
            Emptying::Delete => {
                names.iter().map(|name| format!("delete from only {name}")).collect::<Vec<_>>().join("; ")
            }
        };
        let client = Arc::clone(&self.client);
        let emptied = async move { client.batch_execute(&sql).await.map(|()| 0) };
        let tables = shapes.iter().map(|shape| shape.green.plain()).collect::<Vec<_>>().join(", ");
        self.pipeline.send(Pending::start(emptied, About::Truncate { tables }).await).await
    }

    async fn execute(&mut self, prepared: Arc<Prepared>, values: Vec<TextCell>, about: About) -> Result<()> {
        let client = Arc::clone(&self.client);
        let executed = async move { client.execute_raw(&prepared.statement, values).await };
        self.pipeline.send(Pending::start(executed, about).await).await
    }

    async fn prepared(&mut self, shape: &Shape, key: StatementKey) -> Result<Arc<Prepared>> {
        let id = (shape.id(), key);
        if let Some(prepared) = self.statements.get(&id) {
            return Ok(Arc::clone(prepared));
        }
        let Written { sql, parameters } = match &id.1 {
            StatementKey::Insert(rows) => shape.insert(*rows),
            StatementKey::Update(unchanged) => shape.update(unchanged),
            StatementKey::Replace(unchanged) => shape.replace(unchanged),
            StatementKey::Delete => shape.delete(),
        };
        match in_time(self.client.prepare(&sql)).await? {
            Ok(statement) => {
                let prepared = Arc::new(Prepared { statement, parameters });
                self.statements.insert(id, Arc::clone(&prepared));
                Ok(prepared)
            }
            Err(error) => {
                // In a failed transaction everything fails; what failed first says why.
                self.pipeline.first_failure().await?;
                Err(error).doing(Kind::Server, || {
                    format!("cannot prepare a change of {} on green", shape.green.plain())
                })
            }
        }
    }
}

/// A table of green that several of blue's are merged into is emptied only when all of them are.
fn refuse_others_rows(shapes: &[Arc<Shape>]) -> Result<()> {
    for shape in shapes.iter().filter(|shape| shape.is_merged()) {
        let emptied = shapes.iter().filter(|other| other.green == shape.green).count();
        if emptied < shape.sharing {
            let what = format!(
                "blue truncated {}, and {} on green has rows of other tables besides, which nothing tells from its rows",
                shape.blue().plain(),
                shape.green.plain()
            );
            return Err(Error::new(Kind::Gate, what)
                .hint("`migrate rollback --all`, and copy afresh with `migrate replicate`; meanwhile, delete rows on blue instead of truncating tables that are merged"));
        }
    }
    Ok(())
}

fn row(shape: &Arc<Shape>, before: &Tuple) -> Row {
    Row { shape: Arc::clone(shape), key: Tuple(shape.key_cells(before).cloned().collect()) }
}

pub(super) fn values(parameters: &[From], before: &Tuple, after: &Tuple) -> Result<Vec<TextCell>> {
    let cell = |from: &From| match from {
        From::New(at) => after.0.get(*at),
        From::Old(at) => before.0.get(*at),
    };
    parameters
        .iter()
        .map(|from| match cell(from) {
            Some(Cell::Unchanged) | None => {
                Err(Error::new(Kind::Server, "blue did not send a value that a change needs")
                    .hint("Give the table REPLICA IDENTITY FULL on blue, and start from a fresh copy."))
            }
            Some(cell) => Ok(TextCell::of(cell)),
        })
        .collect()
}
