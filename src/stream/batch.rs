//! What is collected of blue's stream for one transaction of green, while green writes the one before.

use super::change::Change;
use super::net::NetEffect;
use super::pgoutput::{Cell, Commit, CommitTime, LogicalMessage};
use crate::error::Result;
use crate::pg::lsn::Lsn;
use std::time::{Duration, Instant};

/// A batch is written when it holds this much, at the next end of a blue transaction.
const ROWS: u64 = 20_000;
const WEIGHT_BYTES: usize = 24 << 20;
const AGE: Duration = Duration::from_millis(500);

/// A blue transaction that takes a batch beyond this is written in parts, in one transaction of green.
pub(super) const PART_ROWS: u64 = 2 * ROWS;
pub(super) const PART_WEIGHT_BYTES: usize = WEIGHT_BYTES + (8 << 20);

/// One that changes tables that are merged is held up to this: a part of it may hold a row that comes to one table, and only
/// the next part the same row leaving another.
const MERGED_PART_WEIGHT_BYTES: usize = 6 * WEIGHT_BYTES;

/// Fewer rows than this are written one by one: the fixed price of sets is higher.
const SETS_FROM_ROWS: usize = 100;

/// Memory that a change takes besides its bytes and cells: itself, and its place in the net effect.
const WEIGHT_OF_CHANGE: usize = 200;

/// Logical messages with this prefix are markers of ours.
pub(super) const MARKER_PREFIX: &str = "migrate";

/// What a commit on green brought.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    /// Blue's position that is in now.
    pub position: Lsn,
    pub transactions: u64,
    pub rows: u64,
    pub commit_time: Option<CommitTime>,
    /// Markers, each with the end of its commit.
    pub markers: Vec<(String, Lsn)>,
    /// Rows that were missing and exempt.
    pub exempted: u64,
    /// Small batches written by one statement each.
    pub at_once: u64,
    /// Batches and parts of them written set by set.
    pub set_based: u64,
    /// Those that failed set by set, and were written again row by row.
    pub replayed: u64,
}

impl Applied {
    /// Takes in what followed.
    pub fn extend(&mut self, more: Applied) {
        self.position = self.position.max(more.position);
        self.transactions += more.transactions;
        self.rows += more.rows;
        self.commit_time = more.commit_time.or(self.commit_time);
        self.markers.extend(more.markers);
        self.exempted += more.exempted;
        self.at_once += more.at_once;
        self.set_based += more.set_based;
        self.replayed += more.replayed;
    }
}

/// How a batch may be written.
#[derive(Debug)]
enum Way {
    /// Few rows so far: one by one.
    Few,
    /// By its net effect, as long as it has one.
    Net(NetEffect),
    /// One by one, in order.
    Exact,
}

/// Changes in blue's order, up to the end of a blue transaction, or a part of a very large one.
#[derive(Debug)]
pub(super) struct Batch {
    pub changes: Vec<Change>,
    pub applied: Applied,
    way: Way,
    began: Option<Instant>,
    weight_bytes: usize,
    /// It has rows of tables that are merged.
    pub is_merged: bool,
    inside: bool,
    markers_inside: Vec<String>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch {
            changes: Vec::new(),
            applied: Applied::default(),
            way: Way::Few,
            began: None,
            weight_bytes: 0,
            is_merged: false,
            inside: false,
            markers_inside: Vec::new(),
        }
    }

    /// A part of a transaction that still runs on blue.
    pub fn running() -> Batch {
        let mut batch = Batch::new();
        batch.begin();
        batch
    }

    /// Nothing is in it that green would have to write.
    pub fn is_empty(&self) -> bool {
        self.began.is_none()
    }

    /// It holds whole transactions of blue only, or the last part of one.
    pub fn at_boundary(&self) -> bool {
        !self.inside
    }

    /// How long ago its first change came.
    pub fn age(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// How much memory it takes, roughly.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Large or old enough to be written as soon as green is free.
    pub fn is_full(&self) -> bool {
        if self.inside && self.is_merged {
            return self.weight_bytes >= MERGED_PART_WEIGHT_BYTES;
        }
        if self.inside {
            return self.applied.rows >= PART_ROWS || self.weight_bytes >= PART_WEIGHT_BYTES;
        }
        self.applied.rows >= ROWS || self.weight_bytes >= WEIGHT_BYTES || self.age() >= AGE
    }

    /// A blue transaction begins.
    pub fn begin(&mut self) {
        self.began.get_or_insert_with(Instant::now);
        self.inside = true;
        self.markers_inside.clear();
    }

    /// It ends.
    pub fn end(&mut self, commit: &Commit) {
        self.inside = false;
        self.applied.position = self.applied.position.max(commit.end_lsn);
        self.applied.transactions += 1;
        self.applied.commit_time = Some(commit.commit_time);
        self.applied.markers.extend(self.markers_inside.drain(..).map(|marker| (marker, commit.end_lsn)));
    }

    /// A logical message, which may be a marker of ours.
    pub fn hear(&mut self, message: &LogicalMessage) {
        self.mark(marker_in(message));
    }

    /// Markers of the transaction that it is in.
    pub fn mark(&mut self, markers: impl IntoIterator<Item = String>) {
        if self.inside {
            self.markers_inside.extend(markers);
        }
    }

    /// Moves over a part of blue's log that held nothing for us.
    pub fn pass(&mut self, position: Lsn) {
        self.began.get_or_insert_with(Instant::now);
        self.applied.position = self.applied.position.max(position);
    }

    /// Adds a change of `bytes` as it was sent.
    ///
    /// # Errors
    /// When it does not fit its shape, or green has nothing to find its row by.
    pub fn add(&mut self, change: Change, bytes: u64) -> Result<()> {
        change.check()?;
        let cells =
            change.after().map_or(0, |row| row.0.len()) + change.before().map_or(0, |row| row.0.len());
        self.weight_bytes +=
            usize::try_from(bytes).unwrap_or(usize::MAX / 2) + cells * size_of::<Cell>() + WEIGHT_OF_CHANGE;
        self.applied.rows += change.rows();
        self.changes.push(change);
        // Rows of merged tables are written by their net effect however few they are: see `apply::mapped_sets`.
        self.is_merged |= self.changes.last().is_some_and(Change::is_merged);
        self.fold_last();
        Ok(())
    }

    /// Takes in the changes of another, behind its own.
    pub fn absorb(&mut self, other: Batch) {
        self.weight_bytes += other.weight_bytes;
        self.applied.rows += other.applied.rows;
        self.is_merged |= other.is_merged;
        self.markers_inside.extend(other.markers_inside);
        if self.changes.is_empty() {
            (self.changes, self.way) = (other.changes, other.way);
            return;
        }
        for change in other.changes {
            self.changes.push(change);
            self.fold_last();
        }
    }

    fn fold_last(&mut self) {
        match &mut self.way {
            Way::Few if self.is_merged || self.changes.len() >= SETS_FROM_ROWS => {
                self.fold(0, NetEffect::default())
            }
            Way::Net(net) => {
                let net = std::mem::take(net);
                self.fold(self.changes.len() - 1, net);
            }
            Way::Few | Way::Exact => {}
        }
    }

    fn fold(&mut self, from: usize, mut net: NetEffect) {
        let folded = (from..self.changes.len()).try_for_each(|at| net.add(&self.changes, at));
        self.way = match folded {
            Ok(()) => Way::Net(net),
            Err(why) => {
                tracing::debug!(why, "a batch is written row by row");
                Way::Exact
            }
        };
    }

    /// Takes the net effect out, if there is one.
    pub fn take_net(&mut self) -> Option<NetEffect> {
        match std::mem::replace(&mut self.way, Way::Exact) {
            Way::Net(net) => Some(net),
            Way::Few | Way::Exact => None,
        }
    }

    /// Takes what is in it to be written; what follows begins in it anew, inside of the same blue transaction if that
    /// has not ended.
    pub fn take(&mut self) -> Batch {
        let mut rest = Batch::new();
        if self.inside {
            rest.inside = true;
            rest.began = Some(Instant::now());
            rest.markers_inside = std::mem::take(&mut self.markers_inside);
        }
        std::mem::replace(self, rest)
    }
}

/// The marker of ours that a logical message is, if it is one.
pub(super) fn marker_in(message: &LogicalMessage) -> Option<String> {
    let is_marker = message.transactional && message.prefix == MARKER_PREFIX;
    is_marker.then(|| String::from_utf8_lossy(&message.content).into_owned())
}
