//! Transactions that blue sends while they still run: what came of each, and is not on green yet.
//!
//! Pure. A transaction that stays small is kept until its end, and then counts like any other. One that grows is written in
//! [`Part`]s, in a transaction of green that is its own and stays open. What a subtransaction did must be taken back
//! when that is rolled back, so its first change gets a savepoint. Blue does not tell when a subtransaction ends well,
//! nor which one it is in, and there may be millions: only a few get a savepoint, and the changes of the others count as
//! those of the savepoint before. When one of these is rolled back after all, and nothing around it is, then only following
//! without streaming can tell its changes apart: an error here, after which the caller does that.

use super::batch::{Batch, PART_ROWS, PART_WEIGHT_BYTES, marker_in};
use super::change::Change;
use super::pgoutput::{Commit, LogicalMessage};
use crate::error::{Error, Kind, Result};

/// No more transactions than this are kept at once, however small.
const TRANSACTIONS_MAX: usize = 64;

/// Each that is written in parts has a session on green.
const SESSIONS_MAX: usize = 4;

/// Of the subtransactions that a part meets first, the last ones may still run, and need a savepoint.
const SAVEPOINTS_OF_PART_MAX: usize = 4;

/// Green looks through all of them for each row it judges.
const SAVEPOINTS_MAX: usize = 256;

/// What green has to do for a transaction that still runs on blue, or has ended just now.
#[derive(Debug)]
pub(super) struct Part {
    /// The transaction's id on blue.
    pub xid: u32,
    pub steps: Vec<Step>,
    pub end: End,
}

/// Names of savepoints are ids of subtransactions.
#[derive(Debug)]
pub(super) enum Step {
    /// Go back to a savepoint; it and all after it are gone.
    TakeBack(u32),
    /// Keep what came since a savepoint; it and all after it are gone.
    Release(u32),
    /// Set a savepoint, if there is one to set, and write. The batch of the last part ends the transaction.
    Write { savepoint: Option<u32>, batch: Box<Batch> },
}

/// What becomes of green's transaction after a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It stays open.
    Open,
    Committed,
    RolledBack,
}

/// All that run.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    running: Vec<Transaction>,
}

#[derive(Debug)]
struct Transaction {
    xid: u32,
    /// The first is the transaction itself. The last is the one that new changes belong to.
    levels: Vec<Level>,
    /// What is to be done on green before the next change is written.
    steps: Vec<Step>,
    /// Changes that are not on green, each segment of a higher level than the one before.
    segments: Vec<Segment>,
    markers: Vec<(usize, String)>,
    /// A subtransaction of this level is rolled back that has no savepoint of its own.
    broken: Option<usize>,
    /// Green has a transaction for it.
    has_session: bool,
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    Committed(Commit),
    RolledBack,
}

/// What can be taken back by itself: all since the first change of a subtransaction.
#[derive(Debug)]
struct Level {
    xid: u32,
    /// The least and the greatest id of subtransactions whose changes are in it.
    others: Option<(u32, u32)>,
    on_green: bool,
}

#[derive(Debug)]
struct Segment {
    level: usize,
    batch: Batch,
}

impl Level {
    fn new(xid: u32) -> Level {
        Level { xid, others: None, on_green: false }
    }

    fn has_other(&self, xid: u32) -> bool {
        self.others.is_some_and(|(least, greatest)| (least..=greatest).contains(&xid))
    }

    fn take_in(&mut self, other: &Level) {
        let (least, greatest) = other.others.unwrap_or((other.xid, other.xid));
        let (least, greatest) = (least.min(other.xid), greatest.max(other.xid));
        let mine = self.others.unwrap_or((least, greatest));
        self.others = Some((mine.0.min(least), mine.1.max(greatest)));
    }
}

impl Transactions {
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// A block of changes of a transaction begins.
    ///
    /// # Errors
    /// [`Kind::Gate`] when it cannot be followed before it ends.
    pub fn start(&mut self, xid: u32) -> Result<()> {
        if let Some(known) = self.running.iter().find(|known| known.xid == xid) {
            return known.check_whole();
        }
        if self.running.len() >= TRANSACTIONS_MAX {
            return Err(too_many(self.running.len() + 1));
        }
        let own = Level { on_green: true, ..Level::new(xid) };
        self.running.push(Transaction {
            xid,
            levels: vec![own],
            steps: Vec::new(),
            segments: Vec::new(),
            markers: Vec::new(),
            broken: None,
            has_session: false,
            ended: None,
        });
        Ok(())
    }

    /// A change of a (sub)transaction, within a block of a transaction.
    ///
    /// # Errors
    /// As [`Batch::add`].
    pub fn add(&mut self, xid: u32, subxid: u32, change: Change, bytes: u64) -> Result<()> {
        self.known(xid)?.segment(subxid).batch.add(change, bytes)
    }

    /// A logical message, which may be a marker of ours. Blue does not tell which subtransaction wrote it: it counts to the
    /// one that wrote last.
    ///
    /// # Errors
    /// [`Kind::Server`] when no block of the transaction has begun.
    pub fn hear(&mut self, xid: u32, message: &LogicalMessage) -> Result<()> {
        let known = self.known(xid)?;
        let level = known.levels.len() - 1;
        known.markers.extend(marker_in(message).map(|marker| (level, marker)));
        Ok(())
    }

    /// A (sub)transaction is rolled back.
    pub fn abort(&mut self, xid: u32, subxid: u32) {
        let Some(at) = self.running.iter().position(|known| known.xid == xid) else { return };
        let known = &mut self.running[at];
        if xid != subxid {
            known.abort_part(subxid);
        } else if known.has_session {
            known.ended = Some(Ended::RolledBack);
        } else {
            self.running.swap_remove(at);
        }
    }

    /// A transaction is committed.
    ///
    /// # Errors
    /// [`Kind::Gate`] when it cannot be told what of it was rolled back.
    pub fn commit(&mut self, xid: u32, commit: Commit) -> Result<()> {
        let known = self.known(xid)?;
        known.check_whole()?;
        known.ended = Some(Ended::Committed(commit));
        Ok(())
    }

    /// Green must do something for one of them before more is taken from blue: others may have what was rolled back
    /// already, and wait for it.
    pub fn is_due(&self) -> bool {
        let urgent = |known: &Transaction| known.ended.is_some() || known.takes_back();
        self.running.iter().any(urgent) || self.are_full()
    }

    fn are_full(&self) -> bool {
        let (mut rows, mut weight_bytes) = (0, 0);
        for segment in self.running.iter().flat_map(|known| &known.segments) {
            rows += segment.batch.applied.rows;
            weight_bytes += segment.batch.weight_bytes();
        }
        rows >= PART_ROWS || weight_bytes >= PART_WEIGHT_BYTES
    }

    /// Takes out a committed transaction that green has nothing of, if it has no more than this weight: its changes, to be written like
    /// those of any other.
    pub fn take_small(&mut self, weight_bytes_max: usize) -> Option<(Batch, Commit)> {
        let at = self.running.iter().position(|known| {
            let committed = matches!(known.ended, Some(Ended::Committed(_)));
            committed && !known.has_session && known.weight_bytes() <= weight_bytes_max
        })?;
        let Transaction { segments, markers, ended, .. } = self.running.swap_remove(at);
        let Some(Ended::Committed(commit)) = ended else { return None };
        let mut whole = Batch::running();
        segments.into_iter().for_each(|segment| whole.absorb(segment.batch));
        whole.mark(markers.into_iter().map(|(_, marker)| marker));
        Some((whole, commit))
    }

    /// Takes out what green must do next.
    ///
    /// # Errors
    /// [`Kind::Gate`] when more of them grow at once than green should have sessions for.
    pub fn take_part(&mut self) -> Result<Option<Part>> {
        let urgent = |known: &Transaction| known.ended.is_some() || known.takes_back();
        let at = match self.running.iter().position(urgent) {
            Some(at) => at,
            None => match self.largest()? {
                Some(at) => at,
                None => return Ok(None),
            },
        };
        let known = &mut self.running[at];
        known.has_session = true;
        let part = known.part();
        if part.end != End::Open {
            self.running.swap_remove(at);
        }
        Ok(Some(part))
    }

    /// The one whose changes take the most room, of those that have or may have a session.
    fn largest(&self) -> Result<Option<usize>> {
        let sessions = self.running.iter().filter(|known| known.has_session).count();
        let may_write = |known: &Transaction| known.has_session || sessions < SESSIONS_MAX;
        let all_bytes: usize = self.running.iter().map(Transaction::weight_bytes).sum();
        let candidates = self.running.iter().enumerate().filter(|(_, known)| may_write(known));
        let largest = candidates.max_by_key(|(_, known)| known.weight_bytes());
        match largest {
            // Others hold so much that these would be written in ever smaller parts.
            Some((_, known)) if known.weight_bytes() < all_bytes / 8 => Err(too_many(self.running.len())),
            largest => Ok(largest.map(|(at, _)| at)),
        }
    }

    fn known(&mut self, xid: u32) -> Result<&mut Transaction> {
        self.running.iter_mut().find(|known| known.xid == xid).ok_or_else(|| {
            Error::new(Kind::Server, format!("blue sent a part of transaction {xid} without its beginning"))
                .hint("Report this; starting again is safe.")
        })
    }
}

impl Transaction {
    fn weight_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.batch.weight_bytes()).sum()
    }

    fn takes_back(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::TakeBack(_)))
    }

    fn check_whole(&self) -> Result<()> {
        if self.broken.is_none() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Gate,
            format!("one of very many subtransactions of blue's transaction {} was rolled back", self.xid),
        ))
    }

    /// Where changes of a subtransaction go, now that it is the one that runs.
    fn segment(&mut self, subxid: u32) -> &mut Segment {
        // It runs, so all that began after it have ended well, and can only be rolled back together with it.
        match self.levels.iter().rposition(|level| level.xid == subxid || level.has_other(subxid)) {
            Some(at) => self.close_after(at),
            None => self.begin_level(subxid),
        }
        let level = self.levels.len() - 1;
        if self.segments.last().is_none_or(|last| last.level < level) {
            self.segments.push(Segment { level, batch: Batch::running() });
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    fn begin_level(&mut self, subxid: u32) {
        if self.levels.len() > SAVEPOINTS_MAX {
            // What is rolled back is most often one of the last: room for those that come.
            self.close_after(SAVEPOINTS_MAX / 2);
        }
        self.levels.push(Level::new(subxid));
        self.segments.push(Segment { level: self.levels.len() - 1, batch: Batch::running() });
        let on_green = self.levels.iter().take_while(|level| level.on_green).count();
        if self.levels.len() - on_green > SAVEPOINTS_OF_PART_MAX {
            // Never the first of all: when what is around all of them is rolled back, that is the one to go back to.
            self.join(on_green.max(2));
        }
    }

    /// A level that green does not have becomes one with the level before it.
    fn join(&mut self, at: usize) {
        let joined = self.levels.remove(at);
        self.levels[at - 1].take_in(&joined);
        let lowered = |level: usize| if level >= at { level - 1 } else { level };
        self.markers.iter_mut().for_each(|(level, _)| *level = lowered(*level));
        self.broken = self.broken.map(lowered);
        let mut segments: Vec<Segment> = Vec::new();
        for Segment { level, batch } in std::mem::take(&mut self.segments) {
            let level = lowered(level);
            match segments.last_mut() {
                Some(last) if last.level == level => last.batch.absorb(batch),
                _ => segments.push(Segment { level, batch }),
            }
        }
        self.segments = segments;
    }

    /// All levels after this one become one with it.
    fn close_after(&mut self, at: usize) {
        if at + 1 == self.levels.len() {
            return;
        }
        if self.levels[at + 1].on_green {
            self.steps.push(Step::Release(self.levels[at + 1].xid));
            for level in &mut self.levels[at + 1..] {
                level.on_green = false;
            }
        }
        while self.levels.len() > at + 1 {
            self.join(at + 1);
        }
    }

    fn abort_part(&mut self, subxid: u32) {
        let Some(at) = self.levels.iter().skip(1).rposition(|level| level.xid == subxid).map(|at| at + 1)
        else {
            // Of one that is not known nothing came, or it was taken back with what is around it.
            let within = self.levels.iter().rposition(|level| level.has_other(subxid));
            self.broken = [self.broken, within].into_iter().flatten().min();
            return;
        };
        if self.levels[at].on_green {
            self.steps.push(Step::TakeBack(subxid));
        }
        self.levels.truncate(at);
        self.segments.retain(|segment| segment.level < at);
        self.markers.retain(|(level, _)| *level < at);
        self.broken = self.broken.filter(|broken| *broken < at);
    }

    /// All that green must do for it now.
    fn part(&mut self) -> Part {
        let mut steps = std::mem::take(&mut self.steps);
        let mut segments = std::mem::take(&mut self.segments);
        let end = match &self.ended {
            None => End::Open,
            Some(Ended::RolledBack) => {
                return Part { xid: self.xid, steps: Vec::new(), end: End::RolledBack };
            }
            Some(Ended::Committed(commit)) => {
                let mut last = segments.pop().map_or_else(Batch::running, |segment| segment.batch);
                last.mark(std::mem::take(&mut self.markers).into_iter().map(|(_, marker)| marker));
                last.end(commit);
                segments.push(Segment { level: 0, batch: last });
                End::Committed
            }
        };
        for Segment { level, batch } in segments {
            let level = &self.levels[level];
            // What has ended is not taken back in parts.
            let savepoint = (end == End::Open && !level.on_green).then_some(level.xid);
            steps.push(Step::Write { savepoint, batch: Box::new(batch) });
        }
        self.levels.iter_mut().for_each(|level| level.on_green = true);
        Part { xid: self.xid, steps, end }
    }
}

fn too_many(count: usize) -> Error {
    Error::new(Kind::Gate, format!("{count} large transactions run on blue at once"))
}

#[cfg(test)]
mod tests;
