//! Writing changes on green, row by row in blue's order, many blue transactions in one of green's.
//!
//! Statements are sent without waiting for their answers; the answers are looked at, in order, before the commit. A
//! crash leaves either the whole green transaction, progress included, or nothing of it.

mod pending;
mod rows;

use super::dirty::{DirtyKey, DirtyKeys};
use super::pgoutput::{Commit, CommitTime, LogicalMessage, Message, Relation};
use super::progress::Progress;
use super::shape::{FollowTable, Shape};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::connect;
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use pending::{About, Pending, Pipeline};
use rows::{InsertRun, StatementKey};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};

/// A green transaction is committed when it holds this much, at the next end of a blue transaction.
const BATCH_ROWS: u64 = 10_000;
const BATCH_BYTES: u64 = 16 << 20;
const BATCH_AGE: Duration = Duration::from_millis(500);

/// Logical messages with this prefix are markers of ours.
pub const MARKER_PREFIX: &str = "migrate";

/// What outlives a connection to green: the shapes blue told in this run, and the keys changed last.
pub(super) struct Memory {
    pub tables: Vec<FollowTable>,
    pub shapes: HashMap<u32, Arc<Shape>>,
    pub dirty: Arc<Mutex<DirtyKeys>>,
    /// How many of those keys are kept; 0 for none.
    pub dirty_limit: usize,
    /// Keys whose rows another part of ours may have removed already.
    pub exempt: Arc<Mutex<HashSet<DirtyKey>>>,
}

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
}

/// The open green transaction.
struct Batch {
    began: Instant,
    bytes: u64,
    /// We are inside of a blue transaction.
    inside: bool,
    markers_inside: Vec<String>,
    keys: DirtyKeys,
    applied: Applied,
}

/// A connection to green that applies.
pub(super) struct Applier<'m> {
    client: Arc<Client>,
    memory: &'m mut Memory,
    slot: String,
    epoch: i64,
    lease: Statement,
    progress: Statement,
    statements: HashMap<(u32, StatementKey), Arc<rows::Prepared>>,
    pipeline: Pipeline,
    inserts: Option<InsertRun>,
    batch: Option<Batch>,
    synchronous: bool,
}

impl<'m> Applier<'m> {
    /// Connects to green with the role of a replica: no trigger or foreign key acts a second time.
    pub async fn connect(
        green: &ConnInfo,
        slot: &str,
        epoch: i64,
        memory: &'m mut Memory,
    ) -> Result<Applier<'m>> {
        let client = connect::connect(green, "apply").await?;
        client
            .batch_execute(
                "set session_replication_role = replica; set synchronous_commit = off; set lock_timeout = '30s'",
            )
            .await
            .doing(Kind::Server, || format!("cannot become a replica's session on {}", green.label()))
            .map_err(|error| error.hint("The role needs SUPERUSER, or SET on session_replication_role."))?;
        let prepared = || "cannot prepare to apply on green: has its schema `migrate` been made?".to_owned();
        let lease = client
            .prepare(include_str!("../../sql/stream/hold_lease.sql"))
            .await
            .doing(Kind::Server, prepared)?;
        let progress = client
            .prepare(include_str!("../../sql/stream/write_progress.sql"))
            .await
            .doing(Kind::Server, prepared)?;
        Ok(Applier {
            client: Arc::new(client),
            slot: slot.to_owned(),
            epoch,
            lease,
            progress,
            statements: HashMap::new(),
            pipeline: Pipeline::new(Arc::clone(&memory.exempt)),
            memory,
            inserts: None,
            batch: None,
            synchronous: false,
        })
    }

    /// Whether a commit now would hold whole transactions of blue only.
    pub fn at_boundary(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| !batch.inside)
    }

    /// Whether a transaction is open on green.
    pub fn is_open(&self) -> bool {
        self.batch.is_some()
    }

    /// Whether the open transaction is large or old enough to be committed at once.
    pub fn is_full(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| {
            batch.applied.rows >= BATCH_ROWS
                || batch.bytes >= BATCH_BYTES
                || batch.began.elapsed() >= BATCH_AGE
        })
    }

    /// Whether a commit is durable on green when it returns.
    pub fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    /// Makes commits durable when they return, or not.
    pub async fn set_synchronous(&mut self, synchronous: bool) -> Result<()> {
        if synchronous != self.synchronous {
            let value = if synchronous { "on" } else { "off" };
            self.client
                .batch_execute(&format!("set synchronous_commit = {value}"))
                .await
                .doing(Kind::Server, || "cannot set synchronous_commit on green".into())?;
            self.synchronous = synchronous;
        }
        Ok(())
    }

    /// Takes one message of blue's stream.
    ///
    /// # Errors
    /// [`Kind::Gate`] when blue's tables changed or a row is not as expected, [`Kind::Lease`] when the lease is gone,
    /// [`Kind::Server`] when green refuses a change.
    pub async fn take(&mut self, message: Message, bytes: u64) -> Result<()> {
        match message {
            Message::Begin(_) => {
                let batch = self.open().await?;
                batch.inside = true;
                batch.markers_inside.clear();
            }
            Message::Commit(commit) => self.end_transaction(&commit),
            Message::Relation(relation) => self.learn(relation).await?,
            Message::Insert { relation, new } => self.insert(relation, new).await?,
            Message::Update { relation, old, new } => self.update(relation, old, new).await?,
            Message::Delete { relation, old } => self.delete(relation, old).await?,
            Message::Truncate { relations, cascade, restart_identity } => {
                self.truncate(&relations, cascade, restart_identity).await?;
            }
            Message::Logical(message) => self.hear(message),
            Message::Origin { .. } | Message::Type { .. } => {}
        }
        if let Some(batch) = &mut self.batch {
            batch.bytes += bytes;
        }
        Ok(())
    }

    /// Moves the progress over a part of blue's log that held nothing for us, in a transaction of its own unless one
    /// is open.
    pub async fn pass(&mut self, position: Lsn) -> Result<()> {
        let batch = self.open().await?;
        batch.applied.position = batch.applied.position.max(position);
        Ok(())
    }

    /// Commits what is open, with its progress, and says what that was.
    pub async fn commit(&mut self) -> Result<Option<Applied>> {
        self.flush_inserts().await?;
        let Some(batch) = self.batch.take() else { return Ok(None) };
        let applied = &batch.applied;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (position, marker) =
            (applied.position.to_string(), applied.markers.last().map(|(text, _)| text.clone()));
        let (transactions, rows) = (count(applied.transactions), count(applied.rows));
        let commit_micros = applied.commit_time.map(CommitTime::unix_micros);
        let (client, statement, slot) = (Arc::clone(&self.client), self.progress.clone(), self.slot.clone());
        let written = async move {
            client
                .execute(&statement, &[&slot, &position, &marker, &transactions, &rows, &commit_micros])
                .await
        };
        self.pipeline.send(Pending::start(written, About::Progress).await).await?;
        let exempted = self.pipeline.settle().await?;
        // Only now, when every answer was good: a commit sent along would commit what came before a surprise.
        self.client.batch_execute("commit").await.doing(Kind::Server, || "cannot commit on green".into())?;
        let keys = batch.keys.list();
        if !keys.is_empty() {
            let mut dirty = self.memory.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            keys.into_iter().for_each(|key| dirty.add(key));
        }
        Ok(Some(Applied { exempted, ..batch.applied }))
    }

    /// How far green is with the slot; `None` when no copy handed over to it.
    pub async fn read_progress(&mut self) -> Result<Option<Progress>> {
        super::progress::read(&*self.client, &self.slot).await
    }

    /// How far green's log is written and flushed.
    pub async fn read_wal(&mut self) -> Result<(Lsn, Lsn)> {
        let row = self
            .client
            .query_one(include_str!("../../sql/stream/read_wal.sql"), &[])
            .await
            .doing(Kind::Server, || "cannot read green's WAL positions".into())?;
        Ok((super::progress::parse_lsn(row.get(0))?, super::progress::parse_lsn(row.get(1))?))
    }

    async fn open(&mut self) -> Result<&mut Batch> {
        if self.batch.is_none() {
            let client = Arc::clone(&self.client);
            let begun = async move { client.batch_execute("begin").await.map(|()| 0) };
            self.pipeline.send(Pending::start(begun, About::Begin).await).await?;
            let (client, statement, epoch) = (Arc::clone(&self.client), self.lease.clone(), self.epoch);
            let held = async move { client.execute(&statement, &[&epoch]).await };
            self.pipeline.send(Pending::start(held, About::Lease { epoch }).await).await?;
        }
        let dirty_limit = self.memory.dirty_limit;
        Ok(self.batch.get_or_insert_with(|| Batch {
            began: Instant::now(),
            bytes: 0,
            inside: false,
            markers_inside: Vec::new(),
            keys: DirtyKeys::new(dirty_limit),
            applied: Applied::default(),
        }))
    }

    fn end_transaction(&mut self, commit: &Commit) {
        let Some(batch) = &mut self.batch else { return };
        batch.inside = false;
        batch.applied.position = commit.end_lsn;
        batch.applied.transactions += 1;
        batch.applied.commit_time = Some(commit.commit_time);
        batch.applied.markers.extend(batch.markers_inside.drain(..).map(|marker| (marker, commit.end_lsn)));
    }

    fn hear(&mut self, message: LogicalMessage) {
        let Some(batch) = &mut self.batch else { return };
        if batch.inside && message.transactional && message.prefix == MARKER_PREFIX {
            batch.markers_inside.push(String::from_utf8_lossy(&message.content).into_owned());
        }
    }

    /// Learns the shape of a table, or checks that it is what it was.
    async fn learn(&mut self, relation: Relation) -> Result<()> {
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
        let Some(table) = self.memory.tables.iter().find(|table| table.blue == blue).cloned() else {
            return Err(Error::new(Kind::Gate, format!("blue sends changes of {}, which is not in the plan", blue.plain()))
                .hint("It was added to the publication, or renamed, or is a new partition. Start from a fresh copy."));
        };
        // Looking at green must not stand between a row and its answer.
        self.flush_inserts().await?;
        let oid = relation.oid;
        match Shape::resolve(&self.client, relation, &table).await {
            Ok(shape) => {
                self.memory.shapes.insert(oid, Arc::new(shape));
                Ok(())
            }
            Err(error) => self.pipeline.first_failure().await.and(Err(error)),
        }
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

    fn count(&mut self, rows: u64) {
        if let Some(batch) = &mut self.batch {
            batch.applied.rows += rows;
        }
    }

    async fn truncate(&mut self, relations: &[u32], cascade: bool, restart_identity: bool) -> Result<()> {
        self.flush_inserts().await?;
        let shapes: Vec<_> = relations.iter().map(|oid| self.shape(*oid)).collect::<Result<_>>()?;
        let names: Vec<_> = shapes.iter().map(|shape| shape.green.to_string()).collect();
        let restart = if restart_identity { " restart identity" } else { "" };
        let cascade = if cascade { " cascade" } else { "" };
        let sql = format!("truncate table {}{restart}{cascade}", names.join(", "));
        let client = Arc::clone(&self.client);
        let emptied = async move { client.batch_execute(&sql).await.map(|()| 0) };
        let tables = shapes.iter().map(|shape| shape.green.plain()).collect::<Vec<_>>().join(", ");
        self.pipeline.send(Pending::start(emptied, About::Truncate { tables }).await).await?;
        self.count(relations.len() as u64);
        Ok(())
    }
}
