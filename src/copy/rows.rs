//! Copies rows: several workers, one snapshot, `COPY … TO STDOUT` piped into `COPY … FROM STDIN`.
//!
//! A crash in the middle leaves tables of green that are whole, empty or (when cut in pieces) partly filled. The
//! snapshot is gone with us, so the next attempt copies every table again; each is truncated first, hence nothing
//! is ever there twice.

use super::{builds::Builds, lease, ledger::Ledger, lock_watch::LockWatch, pump::Counts, table::TableCopier};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::mapping::Mapping;
use crate::pg::{
    conninfo::ConnInfo,
    name::{Ident, TableName},
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a table steps aside for a session on blue that waits for our lock, before we give up.
const YIELDS_MAX: u32 = 12;
/// Smaller tables stay whole: they are done soon, and FREEZE spares green a later rewrite. In bytes.
const SPLIT_BYTES_MIN: u64 = 256 << 20;
/// The longest a table waits before it is tried again.
const YIELD_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What to copy, and with what.
#[derive(Clone)]
pub struct CopySpec {
    /// Where rows come from; must be a primary.
    pub blue: ConnInfo,
    /// Where they go; its state schema exists.
    pub green: ConnInfo,
    /// Name of the snapshot that the slot's creation exported. The exporting session must live until we return.
    pub snapshot: String,
    /// Tables with rows of their own: plain tables and partition leaves.
    pub tables: Vec<CopyTable>,
    /// Connections to each side. At least 1.
    pub workers: usize,
    /// The attempt that the ledger's rows belong to.
    pub attempt: i32,
    /// The lease's epoch.
    pub epoch: i64,
    /// Told of each table that is whole, to build its indexes.
    pub builds: Arc<Builds>,
}

/// One table to copy.
#[derive(Debug, Clone)]
pub struct CopyTable {
    /// Its name on blue.
    pub blue: TableName,
    /// Its name on green.
    pub green: TableName,
    /// The columns, named alike on both sides, generated ones left out. Empty only when the table has none.
    pub columns: Vec<Ident>,
    /// How blue's rows become green's, when the shapes differ.
    pub mapping: Option<Arc<Mapping>>,
    /// Heap and TOAST on blue, in bytes; the biggest is begun first.
    pub bytes: u64,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyTotals {
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes in COPY's format.
    pub bytes: u64,
}

/// One table while it is copied, shared by its pieces.
pub(super) struct TableRun {
    pub(super) table: CopyTable,
    pub(super) counts: Counts,
    pieces_left: AtomicUsize,
}

/// Whether a table's rows are all on green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Copying,
    Done,
}

impl TableRun {
    pub(super) fn progress(&self, stage: Stage) -> Event {
        let (rows, bytes) = self.counts.so_far();
        let total_bytes = match stage {
            // COPY's format is not the heap's; what is known is only never less than what was seen.
            Stage::Copying => self.table.bytes.max(bytes),
            Stage::Done => bytes,
        };
        let done = stage == Stage::Done;
        Event::Progress { subject: self.table.blue.plain(), rows, bytes, total_bytes, done }
    }
}

/// A table, or a range of one table's blocks, for one worker.
pub(super) struct Piece {
    pub(super) run: Arc<TableRun>,
    /// First block, and the block after the last (none: to the end); `None` for the whole table.
    pub(super) blocks: Option<(u64, Option<u64>)>,
    yields: u32,
    not_before: Instant,
}

/// How one try at a piece ended.
pub(super) enum Outcome {
    /// All its rows are on green, committed.
    Copied { rows: u64, bytes: u64 },
    /// Somebody on blue waits for our lock; nothing of this piece is on green.
    Yielded,
}

/// What all workers share.
struct Shared {
    spec: CopySpec,
    ears: Ears,
    ledger: Ledger,
    watch: LockWatch,
    waiting: Mutex<VecDeque<Piece>>,
    totals: Mutex<CopyTotals>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these; a poisoned one still holds a whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies all tables under the snapshot. Each table is truncated on green in the transaction that fills it.
///
/// When it returns `Ok`, every row is durable on green. Dropping the future stops all workers; their transactions
/// roll back.
///
/// # Errors
/// The first failure of any worker, with the table's name; the others are stopped before it is returned.
/// [`Kind::Lease`] when another epoch took over, [`Kind::Deadline`] when a table never got its turn on blue or its
/// bytes stood still.
pub async fn copy(spec: CopySpec, ears: Ears) -> Result<CopyTotals> {
    refuse_unfit(&spec)?;
    let ledger = Ledger::open(&spec).await?;
    let watch = LockWatch::start(lease::session(&spec.blue, "copy lock watch", spec.epoch).await?);
    let waiting = cut(&spec).await?;
    let workers = spec.workers.min(waiting.len());
    let shared = Arc::new(Shared {
        spec,
        ears,
        ledger,
        watch,
        waiting: Mutex::new(waiting),
        totals: Mutex::new(CopyTotals::default()),
    });
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(work(shared.clone()));
    }
    while let Some(ended) = running.join_next().await {
        let result = ended.doing(Kind::Bug, || "a copy worker broke down".into()).and_then(|result| result);
        if let Err(error) = result {
            running.shutdown().await;
            return Err(error);
        }
    }
    shared.ledger.seal().await?;
    let totals = *lock(&shared.totals);
    Ok(totals)
}

/// The pieces, the biggest table's first. A table that would keep one worker busy while the others have gone home is
/// cut by blocks; all its pieces read the one snapshot, so no row is in two of them or in none. One that is only a little
/// more than a worker's share stays whole, since a table filled in one transaction is frozen by it and its indexes are built
/// over rows that need no more marking; builders use the core that becomes idle.
async fn cut(spec: &CopySpec) -> Result<VecDeque<Piece>> {
    let mut tables = spec.tables.clone();
    tables.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.blue.cmp(&b.blue)));
    let share = tables.iter().map(|table| table.bytes).sum::<u64>() / spec.workers as u64;
    let mut pieces = VecDeque::new();
    let mut large = None;
    for table in tables {
        let is_large = spec.workers > 1 && table.bytes > (share + share / 2).max(SPLIT_BYTES_MIN);
        let ranges = if is_large {
            if large.is_none() {
                large = Some(TableCopier::connect(spec).await?);
            }
            match &large {
                Some(copier) => split_table(copier, spec, &table).await?,
                None => Vec::new(),
            }
        } else {
            Vec::new()
        };
        pieces.extend(pieces_of(table, ranges));
    }
    Ok(pieces)
}

/// Ranges of blocks for the workers; none for a table that is better left whole. Its pieces cannot each truncate it, so
/// that is done here.
async fn split_table(
    copier: &TableCopier,
    spec: &CopySpec,
    table: &CopyTable,
) -> Result<Vec<(u64, Option<u64>)>> {
    let blocks = copier.blocks(&table.blue).await.map_err(|error| name_table(error, &table.blue))?;
    let ranges = ranges(blocks, spec.workers as u64);
    if !ranges.is_empty() {
        copier.empty(&table.green, spec.epoch).await.map_err(|error| name_table(error, &table.blue))?;
    }
    Ok(ranges)
}

/// Cuts into equal ranges, the last without an end; nothing when there are fewer blocks than ranges.
fn ranges(blocks: u64, count: u64) -> Vec<(u64, Option<u64>)> {
    let size = blocks / count;
    if size == 0 {
        return Vec::new();
    }
    (0..count).map(|at| (at * size, (at + 1 < count).then_some((at + 1) * size))).collect()
}

fn pieces_of(table: CopyTable, ranges: Vec<(u64, Option<u64>)>) -> Vec<Piece> {
    let pieces_left = AtomicUsize::new(ranges.len().max(1));
    let run = Arc::new(TableRun { table, counts: Counts::default(), pieces_left });
    let piece = |blocks| Piece { run: run.clone(), blocks, yields: 0, not_before: Instant::now() };
    if ranges.is_empty() {
        vec![piece(None)]
    } else {
        ranges.into_iter().map(|range| piece(Some(range))).collect()
    }
}

fn refuse_unfit(spec: &CopySpec) -> Result<()> {
    if spec.workers == 0 {
        return Err(Error::new(Kind::Request, "a copy needs at least one worker"));
    }
    let mut seen = BTreeSet::new();
    for table in &spec.tables {
        if !seen.insert(&table.green) {
            return Err(Error::new(
                Kind::Request,
                format!("two tables are to be copied into {}", table.green.plain()),
            )
            .hint("merging tables is not supported by the first copy; map one of them elsewhere"));
        }
    }
    Ok(())
}

/// Takes pieces until none is left.
async fn work(shared: Arc<Shared>) -> Result<()> {
    let copier = TableCopier::connect(&shared.spec).await?;
    while let Some(mut piece) = next_piece(&shared).await {
        let outcome = copier
            .copy(&piece, &shared.spec, &shared.ledger, &shared.watch, &shared.ears)
            .await
            .map_err(|error| name_table(error, &piece.run.table.blue))?;
        match outcome {
            Outcome::Copied { rows, bytes } => count_in(&shared, &piece, rows, bytes).await?,
            Outcome::Yielded => {
                put_off(&shared, &mut piece)?;
                lock(&shared.waiting).push_back(piece);
            }
        }
    }
    Ok(())
}

async fn count_in(shared: &Shared, piece: &Piece, rows: u64, bytes: u64) -> Result<()> {
    let is_last = piece.run.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1;
    {
        let mut totals = lock(&shared.totals);
        totals.rows += rows;
        totals.bytes += bytes;
        totals.tables += u64::from(is_last);
    }
    if is_last {
        if piece.blocks.is_some() {
            // A whole table is marked in the transaction that fills it; pieces have no transaction in common.
            let (rows, bytes) = piece.run.counts.so_far();
            shared.ledger.finish(&piece.run.table.green, rows, bytes).await?;
        }
        shared.ears.tell(piece.run.progress(Stage::Done));
        shared.spec.builds.is_whole(&piece.run.table.green);
    }
    Ok(())
}

/// The next piece that may be begun; waits for one that was put off when there is no other.
async fn next_piece(shared: &Shared) -> Option<Piece> {
    loop {
        let pause = {
            let mut waiting = lock(&shared.waiting);
            let now = Instant::now();
            if let Some(at) = waiting.iter().position(|piece| piece.not_before <= now) {
                return waiting.remove(at);
            }
            waiting.iter().map(|piece| piece.not_before).min()?
        };
        tokio::time::sleep_until(pause).await;
    }
}

/// Decides when a piece that stepped aside is tried again.
fn put_off(shared: &Shared, piece: &mut Piece) -> Result<()> {
    piece.yields += 1;
    let table = piece.run.table.blue.plain();
    if piece.yields > YIELDS_MAX {
        return Err(Error::new(
            Kind::Deadline,
            format!(
                "{table}: sessions on blue wanted its lock each of the {YIELDS_MAX} times we tried to copy it"
            ),
        )
        .hint(
            "look in blue's pg_locks for who takes access exclusive locks on it, and copy while they rest",
        ));
    }
    let pause = Duration::from_secs(1 << piece.yields.min(5)).min(YIELD_PAUSE_MAX);
    piece.not_before = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.0));
    shared.ears.tell(Event::Warning {
        text: format!(
            "{table}: a session on blue waits for its lock, so we stepped aside and begin it again (try {})",
            piece.yields + 1
        ),
    });
    Ok(())
}

fn name_table(mut error: Error, table: &TableName) -> Error {
    error.what = format!("{}: {}", table.plain(), error.what);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_block_once() {
        assert_eq!(ranges(10, 3), [(0, Some(3)), (3, Some(6)), (6, None)]);
        assert_eq!(ranges(2, 2), [(0, Some(1)), (1, None)]);
        assert!(ranges(1, 2).is_empty());
        assert!(ranges(0, 2).is_empty());
    }
}
