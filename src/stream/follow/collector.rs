//! Turning what was read into batches: changes get the shape they are written by, up to the end of a batch.

use super::Memory;
use crate::error::{Error, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::stream::batch::Batch;
use crate::stream::change::{Change, Emptying};
use crate::stream::pgoutput::{Begin, Message, Relation};
use crate::stream::reader::{Event, Parcel};
use crate::stream::shape::{FollowTable, Shape};
use std::sync::Arc;

/// Collects one batch after the other.
pub(super) struct Collector<'m> {
    memory: &'m mut Memory,
    pub batch: Batch,
    /// What of the last parcel is not in a batch yet.
    parcel: Option<Parcel>,
    /// A table whose shape must be looked up on green first.
    unknown: Option<(Relation, FollowTable)>,
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
    pub fn take_unknown(&mut self) -> Option<(Relation, FollowTable)> {
        self.unknown.take()
    }

    /// Keeps the answer.
    pub fn learn(&mut self, shape: Shape) {
        self.memory.shapes.insert(shape.relation.oid, Arc::new(shape));
    }

    fn take(&mut self, message: Message, bytes: u64) -> Result<()> {
        let change = match message {
            Message::Begin(begin) => {
                self.batch.begin();
                self.perhaps_seen = self.memory.seen.may_have(&begin).then_some(begin);
                return Ok(());
            }
            Message::Commit(commit) => {
                self.batch.end(&commit);
                return Ok(());
            }
            Message::Relation(relation) => return self.meet(relation),
            Message::Logical(message) => {
                self.batch.hear(&message);
                return Ok(());
            }
            Message::Origin { .. } | Message::Type { .. } => return Ok(()),
            Message::Insert { relation, new } => Change::Insert { shape: self.shape(relation)?, new },
            Message::Update { relation, old, new } => Change::update(self.shape(relation)?, old, new),
            Message::Delete { relation, old } => Change::Delete { shape: self.shape(relation)?, old },
            Message::Truncate { relations, cascade, restart_identity } => Change::Truncate {
                shapes: relations.iter().map(|oid| self.shape(*oid)).collect::<Result<_>>()?,
                emptying: if cascade { Emptying::Cascade } else { Emptying::Restrict },
                restart_identity,
            },
        };
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
            if known.relation == relation {
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
        if self.memory.shapes.values().any(anew) {
            return Err(Error::new(Kind::Gate, format!("{} was made anew on blue", blue.plain()))
                .hint("Green has the rows of the one before. `migrate rollback --all`, and start from a fresh copy."));
        }
        let Some(table) = self.memory.tables.iter().find(|table| table.blue == blue).cloned() else {
            return Err(Error::new(Kind::Gate, format!("blue sends changes of {}, which is not in the plan", blue.plain()))
                .hint("It was added to the publication, or renamed, or is a new partition. Start from a fresh copy."));
        };
        self.unknown = Some((relation, table));
        Ok(())
    }

    fn shape(&self, oid: u32) -> Result<Arc<Shape>> {
        self.memory.shapes.get(&oid).map(Arc::clone).ok_or_else(|| {
            Error::new(
                Kind::Server,
                format!("blue sent a change of relation {oid} without having told its shape"),
            )
            .hint("Report this; starting again is safe.")
        })
    }
}
