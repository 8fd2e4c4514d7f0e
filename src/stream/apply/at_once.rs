//! A few changes that have nothing to do with each other, as one statement that commits by itself.
//!
//! Close behind blue a batch is a transaction of a few rows, and what its way to green costs is not the rows: it is a
//! message and an answer for `begin`, the lease, each row, the progress and `commit`, and that the commit has to wait for
//! the answers, since only they say that each row was there. One statement does all of it, and counts for itself: when a row,
//! the lease or the progress row is not as it has to be it divides by zero, so nothing of it is done. Whatever green
//! refuses is then written the careful way, which knows what it was.

use super::pending::in_time;
use super::rows::{StatementKey, TextCell, values};
use super::{Committed, WalPositions, Writer};
use crate::error::{Doing, Kind, Result};
use crate::stream::batch::{Applied, Batch};
use crate::stream::change::Change;
use crate::stream::pgoutput::{Cell, CommitTime, OldTuple, Tuple};
use crate::stream::shape::{From, Locate, Places, Shape, ShapeId, Target};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::Statement;

/// With more changes than this the price of the messages does not matter any more.
const CHANGES_MAX: usize = 16;

/// How many kinds of batches are known; beyond it they are learned anew.
const KINDS_MAX: usize = 256;

/// How often green is asked how far its log is flushed.
const READ_WAL_EVERY: Duration = Duration::from_millis(50);

/// After a kind of batch was refused, so many of it are written the careful way.
const DISTRUST_BATCHES: u32 = 64;

/// Its parameters are the first ones of the statement.
const PROGRESS: &str = include_str!("../../../sql/stream/write_progress.sql");
/// Its one parameter comes after those.
const LEASE: &str = include_str!("../../../sql/stream/hold_lease.sql");
const FIXED_PARAMETERS: usize = 7;

/// The kind of a batch: what it does, one after the other, whatever the values.
type BatchKind = Vec<(ShapeId, StatementKey)>;

/// The statements that are known.
#[derive(Default)]
pub(super) struct AtOnce {
    kinds: HashMap<BatchKind, Known>,
    wal_read: Option<Instant>,
}

/// What is known of a kind of batch.
enum Known {
    /// It came once; a statement is worth preparing when it comes again.
    Seen,
    Prepared(Arc<Prepared>),
    /// Green refused one; so many are left to be written the careful way.
    Refused(u32),
}

struct Prepared {
    statement: Statement,
    /// For each change.
    parameters: Vec<Vec<From>>,
}

/// A change that can be written so.
struct One<'c> {
    shape: &'c Shape,
    does: StatementKey,
    before: &'c Tuple,
    after: &'c Tuple,
}

impl Writer {
    /// Writes and commits a batch when that can be done at once; `None` when it is to be written the careful way, and
    /// nothing of it is on green.
    ///
    /// # Errors
    /// When green does not answer any more: whether the batch is in, its progress row says.
    pub(super) async fn write_at_once(&mut self, batch: &mut Batch) -> Result<Option<Committed>> {
        let Some(ones) = independent(batch) else { return Ok(None) };
        let kind: BatchKind = ones.iter().map(|one| (one.shape.id(), one.does.clone())).collect();
        let Some(prepared) = self.known(&kind, &ones).await? else { return Ok(None) };
        let mut cells = self.fixed_cells(&batch.applied);
        for (one, parameters) in ones.iter().zip(&prepared.parameters) {
            cells.extend(values(parameters, one.before, one.after)?);
        }
        let Some(wal) = self.execute_at_once(&prepared.statement, cells).await? else {
            self.at_once.kinds.insert(kind, Known::Refused(DISTRUST_BATCHES));
            return Ok(None);
        };
        if self.ledger.dirty_limit > 0 {
            let mut dirty = self.ledger.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.extend_from_last(batch.changes.iter().rev().flat_map(Change::keys));
        }
        let mut applied = std::mem::take(&mut batch.applied);
        applied.at_once = 1;
        Ok(Some(Committed { applied, wal }))
    }

    /// Executes it, and now and then reads how far green's log is. `None` when green refuses it.
    async fn execute_at_once(
        &mut self,
        statement: &Statement,
        cells: Vec<TextCell>,
    ) -> Result<Option<Option<WalPositions>>> {
        let reads_wal = self.at_once.wal_read.is_none_or(|read| read.elapsed() >= READ_WAL_EVERY);
        let (client, read_wal) = (Arc::clone(&self.client), self.read_wal.clone());
        let written = async {
            // What is read after it is read after its commit on green, too.
            let reading = async {
                if !reads_wal {
                    return Ok(None);
                }
                WalPositions::read(&client, &read_wal).await.map(Some)
            };
            tokio::join!(client.execute_raw(statement, cells), reading)
        };
        let (executed, wal) = in_time(written).await?;
        match executed {
            Ok(_) => {}
            Err(refused) if refused.as_db_error().is_some() && !client.is_closed() => {
                tracing::debug!(why = %refused, "a small batch is written again, row by row");
                return Ok(None);
            }
            Err(error) => return Err(error).doing(Kind::Server, || "cannot write on green".into()),
        }
        if reads_wal {
            self.at_once.wal_read = Some(Instant::now());
        }
        wal.map(Some)
    }

    /// The statement for a kind of batch, unless it should not be used now.
    async fn known(&mut self, kind: &BatchKind, ones: &[One<'_>]) -> Result<Option<Arc<Prepared>>> {
        match self.at_once.kinds.get_mut(kind) {
            Some(Known::Prepared(prepared)) => return Ok(Some(Arc::clone(prepared))),
            Some(Known::Refused(left)) if *left > 0 => {
                *left -= 1;
                return Ok(None);
            }
            Some(Known::Seen | Known::Refused(_)) => {}
            None => {
                if self.at_once.kinds.len() >= KINDS_MAX {
                    self.at_once.kinds.clear();
                }
                self.at_once.kinds.insert(kind.clone(), Known::Seen);
                return Ok(None);
            }
        }
        let (sql, parameters) = statement_of(ones);
        let known = match in_time(self.client.prepare(&sql)).await? {
            Ok(statement) => Known::Prepared(Arc::new(Prepared { statement, parameters })),
            // A column that green has lost, say: the careful way tells it.
            Err(refused) if refused.as_db_error().is_some() => Known::Refused(DISTRUST_BATCHES),
            Err(error) => {
                return Err(error).doing(Kind::Server, || "cannot prepare to apply on green".into());
            }
        };
        let prepared = match &known {
            Known::Prepared(prepared) => Some(Arc::clone(prepared)),
            Known::Seen | Known::Refused(_) => None,
        };
        self.at_once.kinds.insert(kind.clone(), known);
        Ok(prepared)
    }

    /// The parameters of [`PROGRESS`], and that of [`LEASE`].
    fn fixed_cells(&self, applied: &Applied) -> Vec<TextCell> {
        let commit_micros = applied.commit_time.map(|time| CommitTime::unix_micros(time).to_string());
        let cells = [
            Some(self.slot.clone()),
            Some(applied.position.to_string()),
            applied.markers.last().map(|(marker, _)| marker.clone()),
            Some(applied.transactions.to_string()),
            Some(applied.rows.to_string()),
            commit_micros,
            Some(self.epoch.to_string()),
        ];
        cells.map(TextCell::from).into()
    }
}

/// The changes of a batch that can be written at once. The parts of one statement see green as it was before, and their
/// order is not told: so each row may be touched once, and only by its key; what several tables of blue share on green, and
/// what fires, wants its order; and what rows are joined from is asked before and after.
fn independent(batch: &Batch) -> Option<Vec<One<'_>>> {
    if batch.changes.len() > CHANGES_MAX || batch.is_merged || !batch.at_boundary() {
        return None;
    }
    let ones = batch.changes.iter().map(One::of).collect::<Option<Vec<One<'_>>>>()?;
    let is_alone = |at: usize| !ones[..at].iter().any(|other| other.is_of_the_row_of(&ones[at]));
    (0..ones.len()).all(is_alone).then_some(ones)
}

impl<'c> One<'c> {
    fn of(change: &'c Change) -> Option<One<'c>> {
        let shape: &Shape = change.shape()?;
        if shape.mapped.is_some() || shape.sharing > 1 || shape.is_joined() || shape.only_row_by_row.is_some()
        {
            return None;
        }
        let is_located = matches!(shape.locate, Locate::Key(_));
        let one = |does, before, after| Some(One { shape, does, before, after });
        match change {
            Change::Insert { new, .. } => one(StatementKey::Insert(1), new, new),
            Change::Update { old, new, .. } if is_located => {
                let before = old.as_ref().map_or(new, OldTuple::tuple);
                let unchanged: Vec<bool> = new.0.iter().map(|cell| *cell == Cell::Unchanged).collect();
                let sets = shape.written().any(|at| shape.targets[at] == Target::Write && !unchanged[at]);
                let keeps_key = shape.key_cells(before).eq(shape.key_cells(new));
                if sets && keeps_key { one(StatementKey::Update(unchanged), before, new) } else { None }
            }
            Change::Delete { old, .. } if is_located => one(StatementKey::Delete, old.tuple(), old.tuple()),
            Change::Update { .. } | Change::Delete { .. } | Change::Truncate { .. } => None,
        }
    }

    fn is_of_the_row_of(&self, other: &One<'_>) -> bool {
        let keys = (self.shape.key_cells(self.after), other.shape.key_cells(other.after));
        self.shape.id() == other.shape.id() && !self.shape.key().is_empty() && keys.0.eq(keys.1)
    }
}

/// The statement for such changes, and where the parameters of each come from.
fn statement_of(ones: &[One<'_>]) -> (String, Vec<Vec<From>>) {
    let lease = LEASE.replace("$1", &format!("${FIXED_PARAMETERS}"));
    let mut sql = format!("with lease as (\n{lease}), progress as (\n{PROGRESS} returning 1)");
    let mut whole = String::from("(select count(*) from lease) = 1 and (select count(*) from progress) = 1");
    let (mut parameters, mut before) = (Vec::new(), FIXED_PARAMETERS);
    for (at, one) in ones.iter().enumerate() {
        let mut places = Places { parameters: Vec::new(), before };
        let change = match &one.does {
            StatementKey::Insert(rows) => one.shape.plain_insert(*rows, &mut places),
            StatementKey::Update(unchanged) | StatementKey::Replace(unchanged) => {
                one.shape.plain_update(unchanged, &mut places)
            }
            StatementKey::Delete => one.shape.plain_delete(&mut places),
        };
        let _ = write!(sql, ", row_{at} as ({change} returning 1)");
        let _ = write!(whole, " and (select count(*) from row_{at}) = 1");
        before += places.parameters.len();
        parameters.push(places.parameters);
    }
    let _ = write!(sql, " select 1 / ({whole})::int");
    (sql, parameters)
}
