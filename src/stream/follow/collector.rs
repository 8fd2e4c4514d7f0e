//! Turning what was read into batches: changes get the shape they are written by, up to the end of a batch.

use super::Memory;
use crate::error::{Error, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::stream::batch::Batch;
use crate::stream::change::{Change, Emptying};
use crate::stream::pgoutput::{Begin, Message, OldTuple, Relation, Tuple};
use crate::stream::reader::{Event, Parcel};
use crate::stream::shape::{FollowTable, Shape};
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
}

impl<'m> Collector<'m> {
    pub fn new(memory: &'m mut Memory) -> Collector<'m> {
        Collector { memory, batch: Batch::new(), parcel: None, unknown: None, idle: None, perhaps_seen: None }
    }

    /// Whether it can take another parcel.
    pub fn wants_more(&self) -> bool {
        self.parcel.is_none() && !self.batch.is_full()
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
            let Some(parcel) = &mut self.parcel else { return Ok(()) };
            match parcel.events.pop_front() {
                Some(Event::Message(message, bytes)) => self.take(message, bytes)?,
                Some(Event::Idle(position)) => self.idle = Some(position),
                None => self.parcel = None,
            }
        }
        Ok(())
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
        self.memory.shapes.insert(oid, placed);
    }

    fn take(&mut self, message: Message, bytes: u64) -> Result<()> {
        match message {
            Message::Begin(begin) => {
                self.batch.begin();
                self.perhaps_seen = self.memory.seen.may_have(&begin).then_some(begin);
            }
            Message::Commit(commit) => self.batch.end(&commit),
            Message::Relation(relation) => return self.meet(relation),
            Message::Logical(message) => self.batch.hear(&message),
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
        match change {
            Some(change) => self.batch.add(change, bytes),
            None => Ok(()),
        }
    }

    /// Checks that a table's shape is what it was; a new one is looked up before anything more is collected.
    fn meet(&mut self, relation: Relation) -> Result<()> {
        let blue = TableName::new(relation.schema.as_str(), relation.name.as_str());
        if let Some(known) = self.memory.shapes.get(&relation.oid) {
            if known.iter().all(|known| known.relation == relation) {
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
        if self.memory.shapes.values().flatten().any(anew) {
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

    fn shapes(&self, oid: u32) -> Result<&[Arc<Shape>]> {
        self.memory.shapes.get(&oid).map(Vec::as_slice).ok_or_else(|| {
            Error::new(
                Kind::Server,
                format!("blue sent a change of relation {oid} without having told its shape"),
            )
            .hint("Report this; starting again is safe.")
        })
    }
}
