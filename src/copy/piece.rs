//! What a worker takes at a time: a table, or a range of one table's blocks.

use super::{
    chunk::{self, Chunk},
    cutting::{self, Chunking},
    moment::HeldMoment,
    pump::Counts,
    rows::{CopySpec, CopyTable},
    table::TableCopier,
};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::pg::name::TableName;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often a table steps aside for a session on blue that waits for our lock, before we give up.
const YIELDS_MAX: u32 = 12;
/// The longest a table waits before it is tried again.
const YIELD_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A range of blocks: the first, and the one after the last (none: to the end).
pub(super) type Blocks = (u64, Option<u64>);

/// What a worker reads of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, as of a moment of its own.
    Whole,
    /// A range of blocks, as of the moment of all pieces of the table.
    Blocks(Blocks),
    /// A range of its key, as of a moment of its own.
    Keys(Chunk),
}

impl Part {
    /// Whether it was cut when blue's table had another file: it was truncated or rewritten since.
    pub(super) fn is_of_another_file(&self, filenode: &Option<String>) -> bool {
        matches!(self, Part::Keys(chunk) if Some(&chunk.filenode) != filenode.as_ref())
    }

    /// Which of the table's rows, as a condition; `None` for all.
    pub(super) fn condition(&self) -> Option<String> {
        match self {
            Part::Whole => None,
            Part::Blocks((first, end)) => {
                let upper = end.map(|end| format!(" and ctid < '({end},0)'")).unwrap_or_default();
                Some(format!("ctid >= '({first},0)'{upper}"))
            }
            Part::Keys(chunk) => Some(chunk.condition()),
        }
    }
}

/// One try at a table, shared by its pieces.
pub(super) struct TableRun {
    pub(super) table: CopyTable,
    pub(super) counts: Counts,
    pieces_left: AtomicUsize,
    /// The moment that all pieces are of, once the first has begun.
    held: Mutex<Option<Arc<HeldMoment>>>,
    /// The table was truncated or rewritten on blue between two pieces: it begins again under another moment.
    given_up: AtomicBool,
}

/// Whether a table's rows are all on green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Copying,
    Done,
}

impl TableRun {
    fn new(table: CopyTable, pieces: usize, counts: Counts) -> Arc<TableRun> {
        Arc::new(TableRun {
            table,
            counts,
            pieces_left: AtomicUsize::new(pieces),
            held: Mutex::new(None),
            given_up: AtomicBool::new(false),
        })
    }

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

    /// The moment of a table cut by blocks. The first piece to ask takes it and empties the table on green; the others wait.
    pub(super) async fn held(&self, spec: &CopySpec, copier: &TableCopier) -> Result<Arc<HeldMoment>> {
        let mut held = self.held.lock().await;
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        copier.empty(&self.table.green, spec.epoch).await?;
        let taken = Arc::new(HeldMoment::take(spec).await?);
        *held = Some(taken.clone());
        Ok(taken)
    }

    /// Whether a snapshot for all its pieces is open on blue.
    pub(super) async fn holds_moment(&self) -> bool {
        self.held.lock().await.is_some()
    }

    /// A piece is on green; true when it was the last one.
    pub(super) fn piece_is_in(&self) -> bool {
        self.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Lets the moment of a table cut by blocks go, when all its pieces are in.
    pub(super) async fn let_go(&self) -> Option<Arc<HeldMoment>> {
        self.held.lock().await.take()
    }

    /// Whether another try at the table has taken the place of this one.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// A part of a table for one worker.
pub(super) struct Piece {
    pub(super) run: Arc<TableRun>,
    pub(super) part: Part,
    yields: u32,
    not_before: Instant,
}

impl Piece {
    fn new(run: &Arc<TableRun>, part: Part) -> Piece {
        Piece { run: run.clone(), part, yields: 0, not_before: Instant::now() }
    }

    /// Whether it may be begun.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.not_before <= now
    }

    /// When it may be begun.
    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Puts it off, since somebody on blue waits for its table. Gives which try comes next.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when it was put off too often.
    pub(super) fn put_off(&mut self) -> Result<u32> {
        self.yields += 1;
        if self.yields > YIELDS_MAX {
            return Err(Error::new(
                Kind::Deadline,
                format!("sessions on blue wanted its lock each of the {YIELDS_MAX} times we tried to copy it"),
            )
            .hint(
                "look in blue's pg_locks for who takes access exclusive locks on it, and copy while they rest",
            ));
        }
        let pause = Duration::from_secs(1 << self.yields.min(5)).min(YIELD_PAUSE_MAX);
        self.not_before = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.0));
        Ok(self.yields + 1)
    }

    /// All pieces of its table anew, as of another moment; none when another piece has seen to it already. What pieces of
    /// the old try still do is not committed: the table is emptied first, which waits for their transactions.
    ///
    /// # Errors
    /// As [`Piece::put_off`].
    pub(super) async fn start_over(mut self, copier: &TableCopier, spec: &CopySpec) -> Result<Vec<Piece>> {
        if self.run.given_up.swap(true, Ordering::AcqRel) {
            return Ok(Vec::new());
        }
        self.put_off()?;
        self.cut_anew(copier, spec).await
    }

    /// After a wait in which its snapshot was let go: itself, or all pieces of a table that had one in common, as
    /// [`Piece::start_over`].
    pub(super) async fn begin_again(self, copier: &TableCopier, spec: &CopySpec) -> Result<Vec<Piece>> {
        match self.part {
            Part::Whole | Part::Keys(_) => Ok(vec![self]),
            Part::Blocks(_) if self.run.given_up.swap(true, Ordering::AcqRel) => Ok(Vec::new()),
            Part::Blocks(_) => {
                self.run.let_go().await;
                self.cut_anew(copier, spec).await
            }
        }
    }

    async fn cut_anew(&self, copier: &TableCopier, spec: &CopySpec) -> Result<Vec<Piece>> {
        let mut pieces = pieces_of(self.run.table.clone(), Cutting::ByBlocks, copier, spec).await?;
        for piece in &mut pieces {
            (piece.yields, piece.not_before) = (self.yields, self.not_before);
        }
        Ok(pieces)
    }
}

/// Whether a table that is not cut by its key is cut by blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cutting {
    ByBlocks,
    Never,
}

/// The pieces of all tables, the biggest table's first.
pub(super) async fn cut(mut tables: Vec<CopyTable>, spec: &CopySpec) -> Result<VecDeque<Piece>> {
    tables.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.blue.cmp(&b.blue)));
    let all_bytes = tables.iter().map(|table| table.bytes).sum();
    let mut copier = None;
    let mut pieces = VecDeque::new();
    for table in tables {
        let cutting = match cutting::is_cut_by_blocks(table.bytes, all_bytes, spec.workers) {
            true => Cutting::ByBlocks,
            false => Cutting::Never,
        };
        if cutting == Cutting::Never && table.chunking == Chunking::No {
            pieces.push_back(Piece::new(&TableRun::new(table, 1, Counts::default()), Part::Whole));
            continue;
        }
        let copier = match &copier {
            Some(copier) => copier,
            None => copier.insert(TableCopier::connect(spec).await?),
        };
        let name = table.blue.clone();
        pieces
            .extend(pieces_of(table, cutting, copier, spec).await.map_err(|error| name_table(error, &name))?);
    }
    Ok(pieces)
}

async fn pieces_of(
    table: CopyTable,
    cutting: Cutting,
    copier: &TableCopier,
    spec: &CopySpec,
) -> Result<Vec<Piece>> {
    if let Some(cut) = chunk::cut(&table, copier, spec).await? {
        let run = TableRun::new(table, cut.left.len(), Counts::from(cut.rows, cut.bytes));
        if cut.left.is_empty() {
            // An earlier try died between the last range and the mark.
            copier.mark(&run, None, spec).await?;
            spec.builds.is_whole(&run.table.green);
        }
        return Ok(cut.left.into_iter().map(|part| Piece::new(&run, part)).collect());
    }
    let mut cuts = Vec::new();
    if cutting == Cutting::ByBlocks {
        cuts = ranges(copier.blocks(&table.blue).await?, spec.workers as u64);
    }
    let run = TableRun::new(table, cuts.len().max(1), Counts::default());
    if cuts.is_empty() {
        return Ok(vec![Piece::new(&run, Part::Whole)]);
    }
    Ok(cuts.into_iter().map(|range| Piece::new(&run, Part::Blocks(range))).collect())
}

/// Cuts into equal ranges, the last without an end; nothing when there are fewer blocks than ranges.
fn ranges(blocks: u64, count: u64) -> Vec<Blocks> {
    let size = blocks / count;
    if size == 0 {
        return Vec::new();
    }
    (0..count).map(|at| (at * size, (at + 1 < count).then_some((at + 1) * size))).collect()
}

/// Says which table an error is of.
pub(super) fn name_table(mut error: Error, table: &TableName) -> Error {
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
