//! Turning what was read into batches: changes get the shape they are written by, up to the end of a batch.

use super::{Memory, Streaming, Told};
use crate::error::{Error, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::stream::batch::{Batch, PART_WEIGHT_BYTES};
use crate::stream::change::{Change, Emptying};
use crate::stream::pgoutput::streaming::Streamed;
use crate::stream::pgoutput::{Begin, CommitTime, Message, OldTuple, Relation, Tuple};
use crate::stream::reader::{Event, Parcel};
use crate::stream::shape::{FollowTable, Shape};
use crate::stream::streamed::{Part, Transactions};
use std::sync::Arc;

/// A change of a row as blue sent it.
#[derive(Clone)]
enum Sent {
    Insert(Tuple),
    Update(Option<OldTuple>, Tuple),
    Delete(OldTuple),
}

impl Sent {
    fn of(self, shape: Arc<Shape>) -> Change {
        match self {
            Sent::Insert(new) => Change::Insert { shape, new },
            Sent::Update(old, new) => Change::update(shape, old, new),
            Sent::Delete(old) => Change::Delete { shape, old },
        }
    }
}

/// What green is to write next.
pub(super) enum Work {
    /// Of transactions that blue has committed.
    Batch(Box<Batch>),
    /// Of one that still runs there, or did until now.
    Part(Part),
}

/// Collects one batch after the other.
pub(super) struct Collector<'m> {
    memory: &'m mut Memory,
    pub batch: Batch,
    /// What of the last parcel is not in a batch yet.
    parcel: Option<Parcel>,
    /// A table whose shape must be looked up on green first, for each part that it is split into.
    unknown: Option<(Relation, Vec<FollowTable>)>,
    /// A position we may move to without any change, not yet written down.
    pub idle: Option<Lsn>,
    /// The transaction that is read, while some table's copy may have seen it.
    perhaps_seen: Option<Begin>,
    running: Transactions,
    /// Whose block we are in, and the subtransaction that is read.
    within: Option<(u32, u32)>,
    /// What commits from now on, commits after this position.
    passed: Lsn,
}

impl<'m> Collector<'m> {
    /// For a stream of what commits from a position on.
    pub fn new(memory: &'m mut Memory, from: Lsn) -> Collector<'m> {
        // Blue tells all shapes anew, and some of these may never have come to be.
        for oid in std::mem::take(&mut memory.unproved).into_keys() {
            memory.shapes.remove(&oid);
        }
        memory.calm();
        Collector {
            memory,
            batch: Batch::new(),
            parcel: None,
            unknown: None,
            idle: None,
            perhaps_seen: None,
            running: Transactions::default(),
            within: None,
            passed: from,
        }
    }

    /// Whether it can take another parcel.
    pub fn wants_more(&self) -> bool {
        self.parcel.is_none() && !self.batch.is_full() && !self.is_pressed()
    }

    /// Something of a transaction that runs on blue must be written, and what blue committed before it first.
    pub fn is_pressed(&self) -> bool {
        self.running.is_due()
    }

    /// Nothing is being written: once nothing runs either, what goes wrong is not for the streaming.
    pub fn rest(&mut self) {
        if self.running.is_empty() {
            self.memory.calm();
        }
    }

    /// Takes out what green is to write next.
    ///
    /// # Errors
    /// [`Kind::Gate`] when too much runs on blue at once.
    pub fn take_work(&mut self) -> Result<Work> {
        if self.batch.is_empty()
            && self.is_pressed()
            && let Some(part) = self.running.take_part()?
        {
            return Ok(Work::Part(part));
        }
        if self.batch.at_boundary()
            && let Some(position) = self.idle.take()
        {
            self.batch.pass(position);
        }
        Ok(Work::Batch(Box::new(self.batch.take())))
    }

    pub fn give(&mut self, parcel: Parcel) {
        self.parcel = Some(parcel);
    }

    /// Collects what was given, until the batch is full or green must be asked about a table.
    ///
    /// # Errors
    /// [`Kind::Gate`] when blue's tables changed, or a row cannot be found on green.
    pub fn collect(&mut self) -> Result<()> {
        while self.unknown.is_none() && !self.batch.is_full() {
            self.take_small();
            if self.is_pressed() {
                return Ok(());
            }
            let Some(parcel) = &mut self.parcel else { return Ok(()) };
            match parcel.events.pop_front() {
                Some(Event::Message(message, bytes)) => self.take(message, bytes)?,
                Some(Event::Idle(position)) => {
                    self.passed = self.passed.max(position);
                    self.idle = Some(position);
                }
                None => self.parcel = None,
            }
        }
        Ok(())
    }

    /// A transaction that ended before it grew goes the way of all others.
    fn take_small(&mut self) {
        let room = match self.batch.is_empty() {
            true => usize::MAX,
            false => PART_WEIGHT_BYTES.saturating_sub(self.batch.weight_bytes()),
        };
        if let Some((whole, commit)) = self.running.take_small(room) {
            self.batch.begin();
            self.batch.absorb(whole);
            self.batch.end(&commit);
        }
    }

    /// The table green must be asked about before anything more is collected.
    pub fn take_unknown(&mut self) -> Option<(Relation, Vec<FollowTable>)> {
        self.unknown.take()
    }

    /// Keeps the answer, a shape for each part.
    pub fn learn(&mut self, shapes: Vec<Shape>) {
        let Some(oid) = shapes.first().map(|shape| shape.relation.oid) else { return };
        let tables = &self.memory.tables;
        let placed = shapes.into_iter().enumerate().map(|(part, shape)| {
            let sharing = tables.iter().filter(|table| table.green == shape.green).count();
            Arc::new(shape.placed(part, sharing))
        });
        let placed = placed.collect();
        self.memory.shapes.insert(oid, Told::new(placed));
        // Told by a transaction that may still be rolled back, and with it what it did to the table.
        if let Some((xid, _)) = self.within {
            self.memory.unproved.entry(oid).or_default().insert(xid);
        }
    }

    /// The same was told once more.
    fn prove(&mut self, oid: u32) {
        if let Some(told_by) = self.memory.unproved.get_mut(&oid) {
            match self.within {
                Some((xid, _)) => {
                    told_by.insert(xid);
                }
                None => {
                    self.memory.unproved.remove(&oid);
                }
            }
        }
    }

    fn take(&mut self, message: Streamed, bytes: u64) -> Result<()> {
        match message {
            Streamed::Whole(message) => return self.take_message(message, bytes),
            Streamed::Start { xid } => {
                self.memory.streaming = Streaming::InUse;
                self.running.start(xid)?;
                self.within = Some((xid, xid));
                // Where it will commit is not known. But it runs at this position, so a copy that was made before has not seen
                // it; one made later has when its snapshot did: ids do not come round again while it runs.
                let begin = Begin { commit_lsn: self.passed, commit_time: CommitTime(0), xid };
                self.perhaps_seen = self.memory.seen.may_have(&begin).then_some(begin);
            }
            Streamed::Part { xid, message } => {
                self.within = self.within.map(|(top, _)| (top, xid));
                return self.take_message(message, bytes);
            }
            Streamed::Stop => (self.within, self.perhaps_seen) = (None, None),
            Streamed::Commit { xid, commit } => {
                self.passed = self.passed.max(commit.end_lsn);
                self.running.commit(xid, commit)?;
                self.memory.unproved.retain(|_, told_by| !told_by.contains(&xid));
            }
            Streamed::Abort { xid, subxid } => {
                self.running.abort(xid, subxid);
                if xid == subxid {
                    self.forget_told_by(xid);
                }
            }
        }
        Ok(())
    }

    /// What a transaction that was rolled back told of tables may have been its own doing, and blue tells it anew, unless
    /// another told the same.
    fn forget_told_by(&mut self, xid: u32) {
        let Memory { shapes, unproved, .. } = &mut *self.memory;
        unproved.retain(|oid, told_by| {
            let was_alone = told_by.remove(&xid) && told_by.is_empty();
            if was_alone {
                shapes.remove(oid);
            }
            !was_alone
        });
    }

    fn take_message(&mut self, message: Message, bytes: u64) -> Result<()> {
        match message {
            Message::Begin(begin) => {
                self.batch.begin();
                self.perhaps_seen = self.memory.seen.may_have(&begin).then_some(begin);
            }
            Message::Commit(commit) => {
                self.passed = self.passed.max(commit.end_lsn);
                self.batch.end(&commit);
            }
            Message::Relation(relation) => return self.meet(relation),
            Message::Logical(message) => match self.within {
                Some((xid, _)) => return self.running.hear(xid, &message),
                None => self.batch.hear(&message),
            },
            Message::Origin { .. } | Message::Type { .. } => {}
            Message::Insert { relation, new } => return self.take_row(relation, Sent::Insert(new), bytes),
            Message::Update { relation, old, new } => {
                return self.take_row(relation, Sent::Update(old, new), bytes);
            }
            Message::Delete { relation, old } => return self.take_row(relation, Sent::Delete(old), bytes),
            Message::Truncate { relations, cascade, restart_identity } => {
                let mut shapes = Vec::new();
                for oid in relations {
                    shapes.extend(self.shapes(oid)?.iter().cloned());
                }
                let emptying = if cascade { Emptying::Cascade } else { Emptying::Restrict };
                return self.add(Change::Truncate { shapes, emptying, restart_identity }, bytes);
            }
        }
        Ok(())
    }

    /// A change of a row; of a table that is split, one for each part.
    fn take_row(&mut self, oid: u32, sent: Sent, bytes: u64) -> Result<()> {
        let shapes = self.shapes(oid)?;
        if let [only] = shapes {
            let shape = Arc::clone(only);
            return self.add(sent.of(shape), bytes);
        }
        let parts: Vec<_> = shapes.iter().map(Arc::clone).collect();
        for shape in parts {
            self.add(sent.clone().of(shape), bytes)?;
        }
        Ok(())
    }

    /// Adds what of a change the copied rows do not have yet.
    fn add(&mut self, change: Change, bytes: u64) -> Result<()> {
        let change = match &self.perhaps_seen {
            None => Some(change),
            Some(transaction) => self.memory.seen.unseen(change, transaction)?,
        };
        match (change, self.within) {
            (Some(change), Some((xid, subxid))) => self.running.add(xid, subxid, change, bytes),
            (Some(change), None) => self.batch.add(change, bytes),
            (None, _) => Ok(()),
        }
    }

    /// Checks that a table's shape is what it was; a new one is looked up before anything more is collected.
    fn meet(&mut self, relation: Relation) -> Result<()> {
        let blue = TableName::new(relation.schema.as_str(), relation.name.as_str());
        if let Some(known) = self.memory.shapes.get(&relation.oid) {
            if known.parts.iter().all(|known| known.relation == relation) {
                self.prove(relation.oid);
                return Ok(());
            }
            return Err(Error::new(Kind::Gate, format!("the shape of {} changed on blue", blue.plain())).hint(
                "DDL ran on blue while it was followed. Bring green to the same shape and start from a fresh copy, \
                 or undo the change on blue before any row is written with it.",
            ));
        }
        let anew = |known: &Arc<Shape>| {
            known.relation.schema == relation.schema && known.relation.name == relation.name
        };
        if self.memory.shapes.values().flat_map(|told| &told.parts).any(anew) {
            return Err(Error::new(Kind::Gate, format!("{} was made anew on blue", blue.plain()))
                .hint("Green has the rows of the one before. `migrate rollback --all`, and start from a fresh copy."));
        }
        let tables: Vec<_> = self.memory.tables.iter().filter(|table| table.blue == blue).cloned().collect();
        if tables.is_empty() {
            return Err(Error::new(Kind::Gate, format!("blue sends changes of {}, which is not in the plan", blue.plain()))
                .hint("It was added to the publication, or renamed, or is a new partition. Start from a fresh copy."));
        }
        self.unknown = Some((relation, tables));
        Ok(())
    }

    fn shapes(&mut self, oid: u32) -> Result<&[Arc<Shape>]> {
        self.memory.shapes.get_mut(&oid).map(Told::give).ok_or_else(|| {
            Error::new(
                Kind::Server,
                format!("blue sent a change of relation {oid} without having told its shape"),
            )
            .hint("Report this; starting again is safe.")
        })
    }
}
