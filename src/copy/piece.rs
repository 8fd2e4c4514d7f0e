//! What a worker takes at a time: a table, or a range of one table's blocks.

use super::{
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
/// Smaller tables stay whole: they are done soon, and FREEZE spares green a later rewrite. In bytes.
const SPLIT_BYTES_MIN: u64 = 256 << 20;
/// The longest a table waits before it is tried again.
const YIELD_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A range of blocks: the first, and the one after the last (none: to the end).
pub(super) type Blocks = (u64, Option<u64>);

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
    fn new(table: CopyTable, pieces: usize) -> Arc<TableRun> {
        Arc::new(TableRun {
            table,
            counts: Counts::default(),
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

    /// The moment of a table in pieces. The first piece to ask takes it and empties the table on green; the others wait.
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

    /// A piece is on green; gives the moment of all when it was the last one, which is let go then.
    pub(super) async fn piece_is_in(&self) -> LastPiece {
        if self.pieces_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return LastPiece::No;
        }
        LastPiece::Yes(self.held.lock().await.take())
    }

    /// Whether another try at the table has taken the place of this one.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// Whether a piece was the last of its table.
pub(super) enum LastPiece {
    No,
    /// With the moment of the pieces; a table copied whole has marked its own.
    Yes(Option<Arc<HeldMoment>>),
}

/// A table, or a range of one table's blocks, for one worker.
pub(super) struct Piece {
    pub(super) run: Arc<TableRun>,
    /// `None` for the whole table.
    pub(super) blocks: Option<Blocks>,
    yields: u32,
    not_before: Instant,
    /// Of all pieces of the table.
    ranges: Arc<[Blocks]>,
}

impl Piece {
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

    /// All pieces of its table anew, under another moment; none when another piece has seen to it already. What pieces of
    /// the old try still do is not committed: the first new piece empties the table, and waits for their transactions.
    ///
    /// # Errors
    /// As [`Piece::put_off`].
    pub(super) fn start_over(mut self) -> Result<Vec<Piece>> {
        if self.run.given_up.swap(true, Ordering::AcqRel) {
            return Ok(Vec::new());
        }
        self.put_off()?;
        Ok(pieces_of(self.run.table.clone(), self.ranges, self.yields, self.not_before))
    }
}

/// The pieces of all tables, the biggest table's first. A table that would keep one worker busy while the others have gone
/// home is cut by blocks. One that is only a little more than a worker's share stays whole, since a table filled in one
/// transaction is frozen by it and its indexes are built over rows that need no more marking; builders use the core that
/// becomes idle.
pub(super) async fn cut(mut tables: Vec<CopyTable>, spec: &CopySpec) -> Result<VecDeque<Piece>> {
    tables.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.blue.cmp(&b.blue)));
    let share = tables.iter().map(|table| table.bytes).sum::<u64>() / spec.workers as u64;
    let is_large =
        |table: &CopyTable| spec.workers > 1 && table.bytes > (share + share / 2).max(SPLIT_BYTES_MIN);
    let mut copier = None;
    let mut pieces = VecDeque::new();
    for table in tables {
        let mut cuts = Vec::new();
        if is_large(&table) {
            let copier = match &copier {
                Some(copier) => copier,
                None => copier.insert(TableCopier::connect(spec).await?),
            };
            let blocks = copier.blocks(&table.blue).await.map_err(|error| name_table(error, &table.blue))?;
            cuts = ranges(blocks, spec.workers as u64);
        }
        pieces.extend(pieces_of(table, cuts.into(), 0, Instant::now()));
    }
    Ok(pieces)
}

/// Cuts into equal ranges, the last without an end; nothing when there are fewer blocks than ranges.
fn ranges(blocks: u64, count: u64) -> Vec<Blocks> {
    let size = blocks / count;
    if size == 0 {
        return Vec::new();
    }
    (0..count).map(|at| (at * size, (at + 1 < count).then_some((at + 1) * size))).collect()
}

fn pieces_of(table: CopyTable, ranges: Arc<[Blocks]>, yields: u32, not_before: Instant) -> Vec<Piece> {
    let run = TableRun::new(table, ranges.len().max(1));
    let piece = |blocks| Piece { run: run.clone(), blocks, yields, not_before, ranges: ranges.clone() };
    if ranges.is_empty() {
        vec![piece(None)]
    } else {
        ranges.iter().map(|range| piece(Some(*range))).collect()
    }
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
