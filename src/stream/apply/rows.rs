//! Row changes as statements with text parameters.

use super::Applier;
use super::pending::{About, Pending};
use crate::error::{Doing, Error, Kind, Result};
use crate::stream::dirty::DirtyKey;
use crate::stream::pgoutput::{Cell, OldTuple, Tuple};
use crate::stream::shape::{From, Locate, Shape};
use bytes::{Bytes, BytesMut};
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
    Delete,
}

/// A statement on green, and where its parameters come from.
pub(super) struct Prepared {
    statement: Statement,
    parameters: Vec<From>,
}

/// Consecutive inserts into one table that were not sent yet.
pub(super) struct InsertRun {
    relation: u32,
    shape: Arc<Shape>,
    rows: Vec<Tuple>,
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

impl Applier<'_> {
    pub(super) async fn insert(&mut self, relation: u32, new: Tuple) -> Result<()> {
        if self
            .inserts
            .as_ref()
            .is_some_and(|run| run.relation != relation || run.rows.len() >= INSERT_SIZES[0])
        {
            self.flush_inserts().await?;
        }
        let shape = match &self.inserts {
            Some(run) => Arc::clone(&run.shape),
            None => self.shape(relation)?,
        };
        check_width(&shape, &new)?;
        self.remember(&shape, None, Some(&new));
        self.count(1);
        self.inserts.get_or_insert_with(|| InsertRun { relation, shape, rows: Vec::new() }).rows.push(new);
        Ok(())
    }

    /// Sends the inserts that wait for company.
    pub(super) async fn flush_inserts(&mut self) -> Result<()> {
        let Some(InsertRun { relation, shape, rows }) = self.inserts.take() else { return Ok(()) };
        let width = shape.written().count();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let fits = |size: &&usize| {
                **size <= rest.len() && **size * width <= PARAMETERS_MAX && (width > 0 || **size == 1)
            };
            let size = INSERT_SIZES.iter().find(fits).copied().unwrap_or(1);
            let (now, later) = rest.split_at(size);
            rest = later;
            let prepared = self.prepared(relation, &shape, StatementKey::Insert(size)).await?;
            let values: Vec<TextCell> =
                now.iter().flat_map(|row| shape.written().map(|at| TextCell::of(&row.0[at]))).collect();
            let about = About::Insert { table: shape.green.clone(), rows: size as u64 };
            self.execute(prepared, values, about).await?;
        }
        Ok(())
    }

    pub(super) async fn update(&mut self, relation: u32, old: Option<OldTuple>, new: Tuple) -> Result<()> {
        self.flush_inserts().await?;
        let shape = self.shape(relation)?;
        check_width(&shape, &new)?;
        check_located(&shape, old.as_ref())?;
        let unchanged: Vec<bool> = new.0.iter().map(|cell| *cell == Cell::Unchanged).collect();
        let prepared = self.prepared(relation, &shape, StatementKey::Update(unchanged)).await?;
        let before = old.as_ref().map_or(&new, OldTuple::tuple);
        let values = values(&prepared.parameters, before, &new)?;
        self.remember(&shape, old.as_ref(), Some(&new));
        if old.is_some() {
            self.remember(&shape, None, Some(&new));
        }
        let about = About::Update { key: dirty_key(&shape, old.as_ref(), Some(&new)) };
        self.execute(prepared, values, about).await?;
        self.count(1);
        Ok(())
    }

    pub(super) async fn delete(&mut self, relation: u32, old: OldTuple) -> Result<()> {
        self.flush_inserts().await?;
        let shape = self.shape(relation)?;
        check_width(&shape, old.tuple())?;
        check_located(&shape, Some(&old))?;
        let prepared = self.prepared(relation, &shape, StatementKey::Delete).await?;
        let values = values(&prepared.parameters, old.tuple(), old.tuple())?;
        self.remember(&shape, Some(&old), None);
        let about = About::Delete { key: dirty_key(&shape, Some(&old), None) };
        self.execute(prepared, values, about).await?;
        self.count(1);
        Ok(())
    }

    async fn execute(&mut self, prepared: Arc<Prepared>, values: Vec<TextCell>, about: About) -> Result<()> {
        let client = Arc::clone(&self.client);
        let executed = async move { client.execute_raw(&prepared.statement, values).await };
        self.pipeline.send(Pending::start(executed, about).await).await
    }

    async fn prepared(&mut self, relation: u32, shape: &Shape, key: StatementKey) -> Result<Arc<Prepared>> {
        let id = (relation, key);
        if let Some(prepared) = self.statements.get(&id) {
            return Ok(Arc::clone(prepared));
        }
        let (sql, parameters) = match &id.1 {
            StatementKey::Insert(rows) => (shape.insert(*rows), Vec::new()),
            StatementKey::Update(unchanged) => {
                let written = shape.update(unchanged);
                (written.sql, written.parameters)
            }
            StatementKey::Delete => {
                let written = shape.delete();
                (written.sql, written.parameters)
            }
        };
        match self.client.prepare(&sql).await {
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

    fn remember(&mut self, shape: &Shape, old: Option<&OldTuple>, new: Option<&Tuple>) {
        if let (Some(batch), Locate::Key(_)) = (&mut self.batch, &shape.locate)
            && batch.keys.wanted()
        {
            batch.keys.add(dirty_key(shape, old, new));
        }
    }
}

fn values(parameters: &[From], before: &Tuple, after: &Tuple) -> Result<Vec<TextCell>> {
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

fn dirty_key(shape: &Shape, old: Option<&OldTuple>, new: Option<&Tuple>) -> DirtyKey {
    let text = |cell: Cell| match cell {
        Cell::Text(text) => String::from_utf8_lossy(&text).into_owned(),
        Cell::Null | Cell::Unchanged => String::new(),
    };
    DirtyKey { table: shape.green.clone(), key: shape.key_cells(old, new).into_iter().map(text).collect() }
}

fn check_width(shape: &Shape, tuple: &Tuple) -> Result<()> {
    if tuple.0.len() == shape.targets.len() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Server,
        format!("blue sent a row of {} that does not fit its shape", shape.green.plain()),
    ))
}

fn check_located(shape: &Shape, old: Option<&OldTuple>) -> Result<()> {
    let why = match (&shape.locate, old) {
        (Locate::Key(_), _) | (Locate::WholeRow, Some(OldTuple::Full(_))) => return Ok(()),
        (Locate::Nowhere(why), _) => why.as_str(),
        (Locate::WholeRow, _) => "blue did not send the whole row before",
    };
    Err(Error::new(
        Kind::Gate,
        format!("a changed row of {} cannot be found on green: {why}", shape.green.plain()),
    )
    .hint("Give the table a primary key on both sides, or REPLICA IDENTITY FULL on blue, before the copy."))
}
