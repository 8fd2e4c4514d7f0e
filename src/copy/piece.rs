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

/// A table of blue with what becomes of it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) table: CopyTable,
    /// The same table of blue and others of green, when it is split.
    pub(super) more: Vec<CopyTable>,
}

impl Source {
    /// Once for each table of green that it becomes.
    pub(super) fn ways(&self) -> impl Iterator<Item = &CopyTable> {
        std::iter::once(&self.table).chain(&self.more)
    }

    fn is_kin_of(&self, table: &CopyTable) -> bool {
        self.table.blue == table.blue || self.ways().any(|way| way.green == table.green)
    }
}

/// One try at a table, shared by its pieces.
pub(super) struct TableRun {
    pub(super) source: Source,
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
    fn new(source: Source, pieces: usize, counts: Counts) -> Arc<TableRun> {
        Arc::new(TableRun {
            source,
            counts,
            pieces_left: AtomicUsize::new(pieces),
            held: Mutex::new(None),
            given_up: AtomicBool::new(false),
        })
    }

    /// Its table of blue; of a table that is split, with the first part.
    pub(super) fn table(&self) -> &CopyTable {
        &self.source.table
    }

    /// The tables of green that it fills.
    pub(super) fn greens(&self) -> impl Iterator<Item = &TableName> {
        self.source.ways().map(|way| &way.green)
    }

    pub(super) fn progress(&self, stage: Stage) -> Event {
        let (rows, bytes) = self.counts.so_far();
        let total_bytes = match stage {
            // COPY's format is not the heap's; what is known is only never less than what was seen.
            Stage::Copying => self.table().bytes.max(bytes),
            Stage::Done => bytes,
        };
        let done = stage == Stage::Done;
        Event::Progress { subject: self.table().blue.plain(), rows, bytes, total_bytes, done }
    }

    /// The moment of a table cut by blocks. The first piece to ask takes it and empties the table on green; the others wait.
    pub(super) async fn held(&self, spec: &CopySpec, copier: &TableCopier) -> Result<Arc<HeldMoment>> {
        let mut held = self.held.lock().await;
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        copier.empty(self.greens(), spec.epoch).await?;
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
    /// Tables that are merged with it on green: copied with it, as of the same moment and whole.
    with: Vec<Arc<TableRun>>,
    pub(super) part: Part,
    yields: u32,
    not_before: Instant,
}

impl Piece {
    fn new(run: &Arc<TableRun>, part: Part) -> Piece {
        Piece { run: run.clone(), with: Vec::new(), part, yields: 0, not_before: Instant::now() }
    }

    /// Tables that are merged. A row that moves from one to another would be there twice, or not at all, if each were copied as
    /// of a moment of its own.
    fn of_family(family: Vec<Source>) -> Option<Piece> {
        let mut runs = family.into_iter().map(|source| TableRun::new(source, 1, Counts::default()));
        let first = runs.next()?;
        Some(Piece { with: runs.collect(), ..Piece::new(&first, Part::Whole) })
    }

    /// Its table, and those that are copied with it.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<TableRun>> {
        std::iter::once(&self.run).chain(&self.with)
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
        let family: Vec<Source> = self.runs().map(|run| run.source.clone()).collect();
        let mut pieces = match family.as_slice() {
            [alone] => pieces_of(alone.clone(), Cutting::ByBlocks, copier, spec).await?,
            _ => Piece::of_family(family).into_iter().collect(),
        };
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
pub(super) async fn cut(tables: Vec<CopyTable>, spec: &CopySpec) -> Result<VecDeque<Piece>> {
    let bytes = |family: &[Source]| family.iter().map(|source| source.table.bytes).sum::<u64>();
    let mut families = families(tables);
    families.sort_by(|a, b| bytes(b).cmp(&bytes(a)).then_with(|| a[0].table.blue.cmp(&b[0].table.blue)));
    let all_bytes = families.iter().map(|family| bytes(family)).sum();
    let mut copier = None;
    let mut pieces = VecDeque::new();
    for family in families {
        refuse_ranges(&family)?;
        let source = match <[Source; 1]>::try_from(family) {
            Ok([source]) => source,
            Err(family) => {
                pieces.extend(Piece::of_family(family));
                continue;
            }
        };
        let cutting = match cutting::is_cut_by_blocks(source.table.bytes, all_bytes, spec.workers) {
            true => Cutting::ByBlocks,
            false => Cutting::Never,
        };
        if cutting == Cutting::Never && source.table.chunking == Chunking::No {
            pieces.push_back(Piece::new(&TableRun::new(source, 1, Counts::default()), Part::Whole));
            continue;
        }
        let copier = match &copier {
            Some(copier) => copier,
            None => copier.insert(TableCopier::connect(spec).await?),
        };
        let name = source.table.blue.clone();
        pieces.extend(
            pieces_of(source, cutting, copier, spec).await.map_err(|error| name_table(error, &name))?,
        );
    }
    Ok(pieces)
}

/// What must be copied together: a table with all that it becomes, and with it those that become the same.
fn families(tables: Vec<CopyTable>) -> Vec<Vec<Source>> {
    let (mapped, plain): (Vec<_>, Vec<_>) = tables.into_iter().partition(|table| table.mapping.is_some());
    let alone = |table| vec![Source { table, more: Vec::new() }];
    let mut families: Vec<Vec<Source>> = Vec::new();
    for table in mapped {
        let is_kin = |family: &Vec<Source>| family.iter().any(|source| source.is_kin_of(&table));
        let (kin, others): (Vec<_>, Vec<_>) = families.into_iter().partition(is_kin);
        let mut family: Vec<Source> = kin.into_iter().flatten().collect();
        match family.iter_mut().find(|source| source.table.blue == table.blue) {
            Some(source) => source.more.push(table),
            None => family.push(Source { table, more: Vec::new() }),
        }
        // Locks on blue are taken in this order.
        family.sort_by(|a, b| a.table.blue.cmp(&b.table.blue));
        families = others;
        families.push(family);
    }
    families.extend(plain.into_iter().map(alone));
    families
}

/// Ranges of a key are for a table that becomes one of its own.
fn refuse_ranges(family: &[Source]) -> Result<()> {
    let is_plain = family.len() == 1 && family.iter().all(|source| source.more.is_empty());
    let must = |source: &&Source| matches!(source.table.chunking, Chunking::Must(_));
    match family.iter().find(must).filter(|_| !is_plain) {
        None => Ok(()),
        Some(source) => {
            let error = Error::new(
                Kind::Request,
                "it cannot be copied in ranges of its key: it is split or merged on green",
            );
            Err(name_table(error.hint("leave it out of replicate.chunks"), &source.table.blue))
        }
    }
}

async fn pieces_of(
    source: Source,
    cutting: Cutting,
    copier: &TableCopier,
    spec: &CopySpec,
) -> Result<Vec<Piece>> {
    let may_cut = source.more.is_empty();
    if may_cut && let Some(cut) = chunk::cut(&source.table, copier, spec).await? {
        let run = TableRun::new(source, cut.left.len(), Counts::from(cut.rows, cut.bytes));
        if cut.left.is_empty() {
            // An earlier try died between the last range and the mark.
            copier.mark(&run, None, spec).await?;
            spec.builds.is_whole(&run.table().green);
        }
        return Ok(cut.left.into_iter().map(|part| Piece::new(&run, part)).collect());
    }
    let mut cuts = Vec::new();
    if cutting == Cutting::ByBlocks {
        cuts = ranges(copier.blocks(&source.table.blue).await?, spec.workers as u64);
    }
    let run = TableRun::new(source, cuts.len().max(1), Counts::default());
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

    fn table(blue: &str, green: &str) -> CopyTable {
        let name = |name: &str| TableName::new("public", name);
        let blue_table = crate::mapping::BlueTable {
            name: name(blue),
            is_whole: true,
            columns: Vec::new(),
            key: Vec::new(),
            tells_all: true,
        };
        let mapping = crate::mapping::Mapping {
            map: crate::mapping::TableMap::default(),
            part: None,
            blue: blue_table,
        };
        CopyTable {
            blue: name(blue),
            green: name(green),
            columns: Vec::new(),
            mapping: Some(Arc::new(mapping)),
            bytes: 1,
            chunking: Chunking::No,
        }
    }

    #[test]
    fn what_is_split_or_merged_is_copied_together() {
        let pairs = [("a", "x"), ("b", "y"), ("c", "z"), ("b", "z"), ("d", "d"), ("a", "w")];
        let told = families(pairs.iter().map(|(blue, green)| table(blue, green)).collect());
        let mut told: Vec<String> = told
            .iter()
            .map(|family| {
                let source = |source: &Source| {
                    let greens: Vec<_> = source.ways().map(|way| way.green.name.as_str()).collect();
                    format!("{}→{}", source.table.blue.name.as_str(), greens.join(","))
                };
                family.iter().map(source).collect::<Vec<_>>().join(" ")
            })
            .collect();
        told.sort();
        assert_eq!(told, ["a→x,w", "b→y,z c→z", "d→d"]);
        let must = CopyTable { chunking: Chunking::Must(1), ..table("a", "x") };
        assert!(refuse_ranges(&families(vec![must.clone()])[0]).is_ok());
        let error = refuse_ranges(&families(vec![must, table("a", "w")])[0]).unwrap_err();
        assert_eq!(
            error.what,
            "public.a: it cannot be copied in ranges of its key: it is split or merged on green"
        );
    }

    #[test]
    fn ranges_cover_every_block_once() {
        assert_eq!(ranges(10, 3), [(0, Some(3)), (3, Some(6)), (6, None)]);
        assert_eq!(ranges(2, 2), [(0, Some(1)), (1, None)]);
        assert!(ranges(1, 2).is_empty());
        assert!(ranges(0, 2).is_empty());
    }
}
