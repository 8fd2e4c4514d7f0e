//! Writing batches on green, each in one transaction with the progress row, so that a crash leaves all of it or nothing.
//!
//! A batch of some size is written set by set from its net effect ([`sets`]); what has none, or fails that way, is
//! written row by row in blue's order ([`rows`]). Statements are sent without waiting for their answers; the answers
//! are looked at, in order, before the commit.

mod at_once;
mod backends;
mod conflict;
mod copy_text;
mod joined;
mod landed_map;
mod landing;
mod mapped_sets;
mod pending;
mod rows;
mod sessions;
mod sets;

use super::batch::{Applied, Batch};
use super::change::Change;
use super::dirty::{DirtyKey, DirtyKeys};
use super::net::NetEffect;
use super::pgoutput::{CommitTime, Relation};
use super::progress::Progress;
use super::seen::Seen;
use super::shape::{FollowTable, Shape, ShapeId};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::connect;
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use at_once::AtOnce;
pub(super) use backends::Backends;
use joined::JoinedTables;
use landing::Landings;
use pending::{About, Pending, Pipeline, in_time};
use rows::{InsertRun, StatementKey};
pub(super) use sessions::Sessions;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::{Client, Statement};

/// After a batch failed set by set, the next ones are written row by row: one, two, four, at most this many.
const DISTRUST_MAX_BATCHES: u32 = 64;

/// A session on green writes by key, thousands of rows at once: plans that read whole tables are never meant, and a
/// penalty for one must not have it compiled. Fixed, since a landing table has no statistics to decide by. The last line
/// is against defaults of a role or a database: an array's NULL is one, and xml may be a fragment, as blue wrote them.
const SETTINGS: &str = "set session_replication_role = replica; set synchronous_commit = off; set lock_timeout = '30s'; \
     set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off; \
     set enable_bitmapscan = off; set jit = off; set plan_cache_mode = force_generic_plan; \
     set default_transaction_read_only = off; set array_nulls = on; set xmloption = content";

/// What a connection to green shares with the follower.
#[derive(Clone)]
pub(super) struct Ledger {
    /// The keys changed last.
    pub dirty: Arc<Mutex<DirtyKeys>>,
    /// How many of those keys are kept; 0 for none.
    pub dirty_limit: usize,
    /// Keys whose rows another part of ours may have removed already.
    pub exempt: Arc<Mutex<HashSet<DirtyKey>>>,
    /// The sessions on green that may still be at work.
    pub backends: Backends,
}

/// A commit on green.
#[derive(Debug)]
pub(super) struct Committed {
    pub applied: Applied,
    /// Read after it, unless that was done a moment ago.
    pub wal: Option<WalPositions>,
}

/// How far green's log is.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalPositions {
    pub inserted: Lsn,
    pub flushed: Lsn,
}

impl WalPositions {
    async fn read(client: &Client, statement: &Statement) -> Result<WalPositions> {
        let row = in_time(client.query_one(statement, &[]))
            .await?
            .doing(Kind::Server, || "cannot read green's WAL positions".into())?;
        let position = |at| super::progress::parse_lsn(row.get(at));
        Ok(WalPositions { inserted: position(0)?, flushed: position(1)? })
    }
}

/// A transaction of green that waits for the rest of a large one of blue.
struct Open {
    applied: Applied,
    keys: DirtyKeys,
}

/// A connection to green that writes.
pub(super) struct Writer {
    client: Arc<Client>,
    ledger: Ledger,
    slot: String,
    epoch: i64,
    lease: Statement,
    progress: Statement,
    read_wal: Statement,
    statements: HashMap<(ShapeId, StatementKey), Arc<rows::Prepared>>,
    landings: Landings,
    joined: JoinedTables,
    pipeline: Pipeline,
    at_once: AtOnce,
    inserts: Option<InsertRun>,
    open: Option<Open>,
    synchronous: bool,
    /// Answers do not belong to their statements any more: nothing else can be done on this connection.
    spent: bool,
    /// Batches still to be written row by row, and how many the last failure cost.
    distrust: u32,
    distrust_last: u32,
}

impl Writer {
    /// Connects to green with the role of a replica: no trigger or foreign key acts a second time.
    pub async fn connect(green: &ConnInfo, slot: &str, epoch: i64, ledger: Ledger) -> Result<Writer> {
        let client = connect::connect(green, "apply").await?;
        in_time(client.batch_execute(SETTINGS))
            .await?
            .doing(Kind::Server, || format!("cannot become a replica's session on {}", green.label()))
            .map_err(|error| error.hint("The role needs SUPERUSER, or SET on session_replication_role."))?;
        ledger.backends.add(&client).await?;
        let prepare = async |sql: &str| {
            in_time(client.prepare(sql)).await?.doing(Kind::Server, || {
                "cannot prepare to apply on green: has its schema `migrate` been made?".to_owned()
            })
        };
        let lease = prepare(include_str!("../../sql/stream/hold_lease.sql")).await?;
        let progress = prepare(include_str!("../../sql/stream/write_progress.sql")).await?;
        let read_wal = prepare(include_str!("../../sql/stream/read_wal.sql")).await?;
        Ok(Writer {
            client: Arc::new(client),
            slot: slot.to_owned(),
            epoch,
            lease,
            progress,
            read_wal,
            statements: HashMap::new(),
            landings: Landings::default(),
            joined: JoinedTables::default(),
            pipeline: Pipeline::new(Arc::clone(&ledger.exempt)),
            ledger,
            at_once: AtOnce::default(),
            inserts: None,
            open: None,
            synchronous: false,
            spent: false,
            distrust: 0,
            distrust_last: 0,
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
            in_time(self.client.batch_execute(&format!("set synchronous_commit = {value}")))
                .await?
                .doing(Kind::Server, || "cannot set synchronous_commit on green".into())?;
            self.synchronous = synchronous;
        }
        Ok(())
    }

    /// Writes a batch and commits it with its progress. `None` when it was a part: the transaction stays open then,
    /// until the part that ends it.
    ///
    /// # Errors
    /// [`Kind::Gate`] when a row on green is not as expected, [`Kind::Lease`] when the lease is gone, [`Kind::Server`]
    /// when green refuses a change, in exact order too. After an error the connection is of no use.
    pub async fn write(&mut self, mut batch: Batch) -> Result<Option<Committed>> {
        let written = self.write_batch(&mut batch).await;
        written.map_err(|error| conflict::explained(error, &batch.changes))
    }

    async fn write_batch(&mut self, batch: &mut Batch) -> Result<Option<Committed>> {
        if self.open.is_none() {
            if let Some(committed) = self.write_at_once(batch).await? {
                return Ok(Some(committed));
            }
            self.begin().await?;
        }
        self.note_joined(&batch.changes).await?;
        let trusts_sets = self.trusts_sets();
        let mut net = batch.take_net().filter(|_| trusts_sets);
        if net.is_none() && batch.is_merged {
            net = NetEffect::of_merged(&batch.changes);
        }
        let tried = net.is_some();
        match net {
            Some(net) => self.write_net_or_exact(net, &batch.changes).await?,
            None => self.write_exact(batch.changes.iter()).await?,
        }
        self.note_joined(&batch.changes).await?;
        if batch.at_boundary() {
            self.write_joined().await?;
        }
        let Some(open) = &mut self.open else {
            return Err(Error::new(Kind::Bug, "rows were written outside of a transaction"));
        };
        // From the end, so that a key is looked at once: only the last ones are kept.
        if self.ledger.dirty_limit > 0 {
            open.keys.extend_from_last(batch.changes.iter().rev().flat_map(Change::keys));
        }
        let at_boundary = batch.at_boundary();
        open.applied.extend(std::mem::take(&mut batch.applied));
        open.applied.set_based += u64::from(tried);
        if !at_boundary {
            // What was sent of it must be good before its changes are forgotten.
            let exempted = self.pipeline.settle().await?;
            self.count(|applied| applied.exempted += exempted);
            return Ok(None);
        }
        self.commit().await.map(Some)
    }

    /// How far green is with the slot; `None` when no copy handed over to it.
    pub async fn read_progress(&mut self) -> Result<Option<Progress>> {
        in_time(super::progress::read(&*self.client, &self.slot)).await?
    }

    /// What the copies of an attempt have seen already.
    pub async fn read_seen(&mut self, attempt: i32) -> Result<Seen> {
        in_time(Seen::read(&self.client, attempt)).await?
    }

    /// How far green's log is written and flushed.
    pub async fn read_wal(&mut self) -> Result<WalPositions> {
        WalPositions::read(&self.client, &self.read_wal).await
    }

    /// Matches a table of blue's with green's.
    pub async fn resolve(&mut self, relation: Relation, table: &FollowTable) -> Result<Shape> {
        let shape = in_time(Shape::resolve(&self.client, relation, table)).await??;
        Ok(Shape { joined: self.joined.read(&table.blue), ..shape })
    }

    async fn begin(&mut self) -> Result<()> {
        self.command("begin", About::Command("begin a transaction")).await?;
        let (client, statement, epoch) = (Arc::clone(&self.client), self.lease.clone(), self.epoch);
        let held = async move { client.execute(&statement, &[&epoch]).await };
        self.pipeline.send(Pending::start(held, About::Lease { epoch }).await).await?;
        self.open = Some(Open { applied: Applied::default(), keys: DirtyKeys::new(self.ledger.dirty_limit) });
        Ok(())
    }

    /// Sends a command without waiting for its answer.
    async fn command(&mut self, sql: &'static str, about: About) -> Result<()> {
        let client = Arc::clone(&self.client);
        let sent = async move { client.batch_execute(sql).await.map(|()| 0) };
        self.pipeline.send(Pending::start(sent, about).await).await
    }

    fn count(&mut self, count: impl FnOnce(&mut Applied)) {
        if let Some(open) = &mut self.open {
            count(&mut open.applied);
        }
    }

    fn trusts_sets(&mut self) -> bool {
        let trusted = self.distrust == 0;
        self.distrust = self.distrust.saturating_sub(1);
        trusted
    }

    /// Tries it set by set; whatever fails so is taken back, and written in blue's order. Of tables that are merged only when
    /// they have no net effect of their own: a row that moves from one to another may be there twice for a moment, in blue's order.
    ///
    /// What was sent before it must be good: nothing can be taken back to before that, and it is told as it is.
    async fn write_net_or_exact(&mut self, net: NetEffect, changes: &[Change]) -> Result<()> {
        if !self.joined.is_empty() {
            self.pipeline.first_failure().await?;
        }
        let mut next = Some(net);
        while let Some(net) = next.take() {
            let error = match self.try_net(&net, changes).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // A row that is missing has a name only in exact order, and may be exempt; a refusal may be one of the order.
            if !matches!(error.kind, Kind::Server | Kind::Gate) || self.spent || self.client.is_closed() {
                return Err(error);
            }
            self.take_back(&error, changes).await?;
            if !net.of_merged_alone {
                next = NetEffect::of_merged(changes);
            }
        }
        self.write_exact(changes.iter()).await
    }

    async fn try_net(&mut self, net: &NetEffect, changes: &[Change]) -> Result<()> {
        self.command("savepoint whole", About::Command("set a savepoint")).await?;
        let exempted = match self.write_net(net, changes).await {
            Ok(()) => self.pipeline.settle().await?,
            Err(error) => return Err(error),
        };
        self.count(|applied| applied.exempted += exempted);
        if !net.of_merged_alone {
            self.distrust_last = 0;
        }
        Ok(())
    }

    /// Goes back to before the sets, and distrusts them for a while.
    async fn take_back(&mut self, error: &Error, changes: &[Change]) -> Result<()> {
        tracing::info!(why = %error.chain().join(": "), changes = changes.len(), "a batch is written again, row by row");
        self.pipeline.forget().await;
        self.inserts = None;
        in_time(self.client.batch_execute("rollback to savepoint whole"))
            .await?
            .doing(Kind::Server, || "cannot take a batch back on green".into())?;
        self.landings.forget_new();
        self.distrust_last = (self.distrust_last * 2).clamp(1, DISTRUST_MAX_BATCHES);
        self.distrust = self.distrust_last;
        self.count(|applied| applied.replayed += 1);
        Ok(())
    }

    async fn commit(&mut self) -> Result<Committed> {
        let Some(Open { applied, .. }) = &self.open else {
            return Err(Error::new(Kind::Bug, "there is nothing to commit"));
        };
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
        // Only now, when every answer was good: a commit sent along would commit what came before a surprise. What is
        // read after it is read after it on green, too.
        let client = Arc::clone(&self.client);
        let (committed, wal) = tokio::join!(in_time(client.batch_execute("commit")), self.read_wal());
        committed?.doing(Kind::Server, || "cannot commit on green".into())?;
        let wal = wal?;
        self.landings.keep_new();
        let Some(Open { mut applied, keys }) = self.open.take() else {
            return Err(Error::new(Kind::Bug, "a transaction was lost"));
        };
        applied.exempted += exempted;
        let mut dirty = self.ledger.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        keys.list().into_iter().for_each(|key| dirty.add(key));
        drop(dirty);
        Ok(Committed { applied, wal: Some(wal) })
    }
}
