//! Copies rows: several workers, `COPY … TO STDOUT` piped into `COPY … FROM STDIN`, each table as of a moment of its own.
//!
//! A crash in the middle leaves tables of green that are whole, and marked so; empty; or (when cut in pieces) partly
//! filled. The next attempt passes over those that are whole; each other one is emptied first, hence nothing is ever there
//! twice.

use super::{
    builds::Builds,
    cutting::Chunking,
    lease,
    ledger::Ledger,
    lock_watch::LockWatch,
    piece::{self, Part, Piece, Stage, name_table},
    table::TableCopier,
    throttle::{HeldTooLong, Throttle, Throttling},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::mapping::Mapping;
use crate::pg::{
    conninfo::ConnInfo,
    name::{Ident, TableName},
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What to copy, and with what.
#[derive(Clone)]
pub struct CopySpec {
    /// Where rows come from; must be a primary.
    pub blue: ConnInfo,
    /// Where they go; its state schema exists.
    pub green: ConnInfo,
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
    /// What the copy may cost blue.
    pub throttle: Throttling,
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
    /// Whether it is copied in ranges of its key.
    pub chunking: Chunking,
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

/// How one try at a piece ended.
pub(super) enum Outcome {
    /// All its rows are on green, committed.
    Copied,
    /// Somebody on blue waits for our lock; nothing of this piece is on green.
    Yielded,
    /// The table was truncated or rewritten on blue since its pieces' moment, which sees it empty or not at all.
    Rewritten,
    /// Another try at the table has taken the place of this one.
    GivenUp,
    /// The throttle made us wait for longer than a snapshot of ours may stay on blue; nothing of this piece is on green.
    HeldTooLong,
}

/// What all workers share.
pub(super) struct Shared {
    pub(super) spec: CopySpec,
    pub(super) ears: Ears,
    pub(super) ledger: Ledger,
    pub(super) watch: LockWatch,
    pub(super) throttle: Throttle,
    waiting: Mutex<VecDeque<Piece>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these; a poisoned one still holds a whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies all tables that an earlier call of this attempt did not. Each is truncated on green before it is filled. The slot
/// that green will follow must be there already, and all transactions that ran when it was made must have ended.
///
/// When it returns `Ok`, every row is durable on green, and each table's moment with it. Dropping the future stops all
/// workers; their transactions roll back.
///
/// # Errors
/// The first failure of any worker, with the table's name; the others are stopped before it is returned.
/// [`Kind::Lease`] when another epoch took over, [`Kind::Plan`] when blue cannot answer what the throttle asks, [`Kind::Deadline`] when a table never got its turn on blue or its
/// bytes stood still.
pub async fn copy(spec: CopySpec, ears: Ears) -> Result<CopyTotals> {
    refuse_unfit(&spec)?;
    let throttle = Throttle::start(&spec.blue, spec.epoch, spec.throttle.clone(), ears.clone()).await?;
    let ledger = Ledger::open(&spec).await?;
    let whole = ledger.whole().await?;
    let watch = LockWatch::start(lease::session(&spec.blue, "copy lock watch", spec.epoch).await?);
    let (there, left): (Vec<CopyTable>, Vec<CopyTable>) =
        spec.tables.iter().cloned().partition(|table| whole.contains(&table.blue.plain()));
    for table in there {
        spec.builds.is_whole(&table.green);
    }
    let waiting = piece::cut(left, &spec).await?;
    let workers = spec.workers.min(waiting.len());
    let shared = Arc::new(Shared { spec, ears, ledger, watch, throttle, waiting: Mutex::new(waiting) });
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
    shared.ledger.seal().await
}

fn refuse_unfit(spec: &CopySpec) -> Result<()> {
    if spec.workers == 0 {
        return Err(Error::new(Kind::Request, "a copy needs at least one worker"));
    }
    let mut seen: BTreeMap<&TableName, &CopyTable> = BTreeMap::new();
    for table in &spec.tables {
        let Some(other) = seen.insert(&table.green, table) else { continue };
        if table.mapping.is_none() || other.mapping.is_none() {
            let what = format!("two tables are to be copied into {}", table.green.plain());
            return Err(Error::new(Kind::Request, what).hint("tables are merged when both are mapped"));
        }
    }
    Ok(())
}

/// Takes pieces until none is left.
async fn work(shared: Arc<Shared>) -> Result<()> {
    let mut copier = TableCopier::connect(&shared.spec).await?;
    while let Some(piece) = next_piece(&shared).await {
        let table = piece.run.table().blue.clone();
        take(&shared, &mut copier, piece).await.map_err(|error| name_table(error, &table))?;
    }
    Ok(())
}

async fn take(shared: &Shared, copier: &mut TableCopier, mut piece: Piece) -> Result<()> {
    let outcome = match shared.throttle.begin(piece.run.holds_moment().await).await {
        Ok(()) => copier.copy(&piece, shared).await?,
        Err(HeldTooLong) => Outcome::HeldTooLong,
    };
    let table = piece.run.table().blue.plain();
    match outcome {
        Outcome::Copied => count_in(shared, copier, &piece).await?,
        Outcome::Yielded => {
            let next_try = piece.put_off()?;
            shared.ears.tell(Event::Warning {
                text: format!(
                    "{table}: a session on blue waits for its lock, or ours was ended there, so we begin it again (try {next_try})"
                ),
            });
            lock(&shared.waiting).push_back(piece);
        }
        Outcome::Rewritten => {
            let pieces = piece.start_over(copier, &shared.spec).await?;
            if !pieces.is_empty() {
                shared.ears.tell(Event::Warning {
                    text: format!(
                        "{table}: it was truncated or rewritten on blue while we copied it, so it begins again"
                    ),
                });
            }
            lock(&shared.waiting).extend(pieces);
        }
        Outcome::HeldTooLong => {
            shared.ears.tell(Event::Note {
                text: format!("{table}: its snapshot on blue is let go, since the throttle has held it for long; it begins again when blue is calm"),
            });
            let pieces = piece.begin_again(copier, &shared.spec).await?;
            lock(&shared.waiting).extend(pieces);
        }
        Outcome::GivenUp => {}
    }
    Ok(())
}

async fn count_in(shared: &Shared, copier: &TableCopier, piece: &Piece) -> Result<()> {
    if !piece.run.piece_is_in() {
        return Ok(());
    }
    match piece.part {
        // Marked in the transaction that filled it.
        Part::Whole => {}
        // Pieces have no transaction in common.
        Part::Blocks(_) => {
            let held = piece.run.let_go().await;
            copier.mark(&piece.run, held.as_ref().map(|held| &held.moment), &shared.spec).await?;
        }
        Part::Keys(_) => copier.mark(&piece.run, None, &shared.spec).await?,
    }
    for run in piece.runs() {
        shared.ears.tell(run.progress(Stage::Done));
        run.greens().for_each(|green| shared.spec.builds.is_whole(green));
    }
    Ok(())
}

/// The next piece that may be begun; waits for one that was put off when there is no other.
async fn next_piece(shared: &Shared) -> Option<Piece> {
    loop {
        let pause = {
            let mut waiting = lock(&shared.waiting);
            waiting.retain(|piece| !piece.run.is_given_up());
            let now = Instant::now();
            if let Some(at) = waiting.iter().position(|piece| piece.is_due(now)) {
                return waiting.remove(at);
            }
            waiting.iter().map(Piece::not_before).min()?
        };
        tokio::time::sleep_until(pause).await;
    }
}
