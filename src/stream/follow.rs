//! The follower: keeps green up with blue until it is told to stop, through broken connections.

mod collector;
mod looking;
mod session;

pub use super::dirty::DirtyKey;
pub use super::shape::FollowTable;

use super::apply::{Backends, Ledger};
use super::batch::Applied;
use super::dirty::DirtyKeys;
use super::seen::Seen;
use super::shape::Shape;
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::mapping::Joining;
use crate::pg::connect;
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::pg::replication::Identity;
use crate::pg::trouble;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many markers are remembered: a caller asks for one it wrote a moment ago.
const MARKERS_KEPT: usize = 64;

/// How long a wish for durability may take: a batch is half a second, a transaction of blue may be longer.
const WISH_TIMEOUT: Duration = Duration::from_secs(10);

/// What to follow.
#[derive(Debug, Clone)]
pub struct FollowSpec {
    /// Where changes come from.
    pub blue: ConnInfo,
    /// Where they go.
    pub green: ConnInfo,
    /// The slot on blue.
    pub slot: String,
    /// The publication on blue.
    pub publication: String,
    /// The attempt whose copy green has: what a table's copy saw is passed over.
    pub attempt: i32,
    /// Our lease on green.
    pub epoch: i64,
    /// The tables of the publication; a change of any other stops us.
    pub tables: Vec<FollowTable>,
    /// Tables of green that are joined from copies among them, and filled: their rows are kept in the same transactions.
    pub joined: Vec<Arc<Joining>>,
    /// How many of the keys changed last are kept for [`Follower::dirty_keys`].
    pub dirty_keys: usize,
    /// When the slot holds more of blue's WAL than this, it is dropped.
    pub retained_wal_max_bytes: u64,
}

impl FollowSpec {
    /// Whether rows of green are joined from a table of blue: all changes of a transaction must be there before they are made.
    pub fn is_joined(&self, blue: &TableName) -> bool {
        self.joined.iter().any(|joining| joining.source(blue).is_some())
    }
}

/// How far we are.
#[derive(Debug, Clone, Default)]
pub struct FollowStatus {
    /// Visible on green: every blue transaction that ended at or before this position.
    pub applied: Lsn,
    /// The same, and it survives a crash of green.
    pub durable: Lsn,
    /// Where blue's log ends, as far as we have heard.
    pub blue_end: Lsn,
    /// The newest marker applied.
    pub marker: Option<String>,
    /// Blue transactions applied by this follower.
    pub transactions: u64,
    /// Row changes applied by this follower.
    pub rows: u64,
    /// Missing rows that were exempt.
    pub exempted: u64,
    /// Small batches written by one statement each.
    pub at_once: u64,
    /// Batches written set by set.
    pub set_based: u64,
    /// Those of them that green refused so, and that were written again row by row.
    pub replayed: u64,
    /// Commits on green are durable at once.
    pub synchronous: bool,
    /// WAL bytes between blue's end and what green has.
    pub lag_bytes: u64,
    /// Age of the newest transaction applied, by blue's clock; 0 when green has all that blue sent.
    pub lag_seconds: f64,
    /// Why we stopped, when we did not do so by request.
    pub failed: Option<String>,
}

/// What the caller wants of the running task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wish {
    stop: bool,
    synchronous: bool,
}

/// What outlives a session: the shapes blue told in this run.
struct Memory {
    tables: Vec<FollowTable>,
    seen: Seen,
    shapes: BTreeMap<u32, Told>,
    /// Those that only a transaction told that still runs.
    unproved: HashMap<u32, HashSet<u32>>,
    streaming: Streaming,
}

/// What blue told of a table.
struct Told {
    /// For each part of the table, which is one when it is not split.
    parts: Vec<Arc<Shape>>,
    /// How many changes they were given to.
    given: usize,
}

/// Changes that share one count of their shape. The batch that is collected and the one that was written add to it and take
/// from it at once, on two cores: with one count for all rows that took a tenth of our time for a large transaction.
const SHAPE_SHARED_BY: usize = 4096;

impl Told {
    fn new(parts: Vec<Arc<Shape>>) -> Told {
        Told { parts, given: 0 }
    }

    /// The shapes for one more change.
    fn give(&mut self) -> &[Arc<Shape>] {
        self.given += 1;
        if self.given.is_multiple_of(SHAPE_SHARED_BY) {
            self.parts.iter_mut().for_each(|part| *part = Arc::new(Shape::clone(part)));
        }
        &self.parts
    }
}

/// Whether blue sends large transactions while they still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    /// It may.
    Wanted,
    /// It does right now: what goes wrong may be for that.
    InUse,
    /// It must not.
    Off,
}

impl Memory {
    fn new(spec: &FollowSpec) -> Memory {
        let tables = spec.tables.clone();
        // Two rows of blue may be one of green there, so that a transaction would wait on green for one that blue lets run beside it.
        let merged = |table: &FollowTable| {
            tables.iter().any(|other| other.green == table.green && other.blue != table.blue)
        };
        let is_apart = spec.joined.is_empty() && !tables.iter().any(merged);
        let streaming = if is_apart { Streaming::Wanted } else { Streaming::Off };
        Memory { tables, seen: Seen::default(), shapes: BTreeMap::new(), unproved: HashMap::new(), streaming }
    }

    /// What goes wrong now is not for the streaming.
    fn calm(&mut self) {
        if self.streaming == Streaming::InUse {
            self.streaming = Streaming::Wanted;
        }
    }

    /// Whether an error may be one of the streaming alone: then the rest of this run does without.
    fn gives_up_streaming(&mut self, error: &Error) -> bool {
        let of_streaming = self.streaming == Streaming::InUse
            && matches!(error.kind, Kind::Server | Kind::Gate | Kind::Connect)
            && (trouble::is_contention(error) || !trouble::may_pass(error));
        if of_streaming {
            self.streaming = Streaming::Off;
        }
        of_streaming
    }
}

/// What the task and its callers share.
struct Shared {
    spec: FollowSpec,
    ears: Ears,
    status: watch::Sender<FollowStatus>,
    markers: Mutex<VecDeque<(String, Lsn)>>,
    dirty: Arc<Mutex<DirtyKeys>>,
    exempt: Arc<Mutex<HashSet<DirtyKey>>>,
    failure: Mutex<Option<Error>>,
}

/// A running follower. Dropping it stops the task where it is, which is as safe as a crash: whatever was not committed
/// with its progress is applied again.
pub struct Follower {
    shared: Arc<Shared>,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts following from green's progress row, in a task of its own. What goes wrong, at once or later, is in the
    /// status and in [`Follower::wait_failed`].
    pub fn start(spec: FollowSpec, ears: Ears) -> Follower {
        let dirty = Arc::new(Mutex::new(DirtyKeys::new(spec.dirty_keys)));
        let shared = Arc::new(Shared {
            spec,
            ears,
            status: watch::Sender::new(FollowStatus::default()),
            markers: Mutex::default(),
            dirty,
            exempt: Arc::default(),
            failure: Mutex::default(),
        });
        let (wish, wishes) = watch::channel(Wish::default());
        let task = tokio::spawn(run(Arc::clone(&shared), wishes));
        Follower { shared, wish, task }
    }

    /// How far it is, now and from now on.
    pub fn status(&self) -> watch::Receiver<FollowStatus> {
        self.shared.status.subscribe()
    }

    /// Whether commits on green are durable at once (`synchronous_commit`): slower, and wanted before the fence, where
    /// the marker's arrival must be durable without a further wait. Returns when it is in force.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when it is not within ten seconds: the batch that runs is too long, or green does not answer.
    /// Its own error when the follower has failed.
    pub async fn durable(&self, at_once: bool) -> Result<()> {
        self.wish.send_modify(|wish| wish.synchronous = at_once);
        let mut status = self.status();
        let in_force = status.wait_for(|status| status.synchronous == at_once || status.failed.is_some());
        match tokio::time::timeout(WISH_TIMEOUT, in_force).await {
            Ok(Ok(status)) if status.failed.is_none() => Ok(()),
            Ok(_) => Err(self.take_failure()),
            Err(_) => Err(Error::new(Kind::Deadline, "the follower did not change how durable its commits are in time")
                .hint("Wait until green has caught up, and look for what it waits for in pg_stat_activity on green.")),
        }
    }

    /// Keys whose rows may be missing on green when a change of them comes, since another part of ours removed them.
    pub fn exempt(&self, keys: impl IntoIterator<Item = DirtyKey>) {
        lock(&self.shared.exempt).extend(keys);
    }

    /// The last distinct keys it changed, oldest first.
    pub fn dirty_keys(&self) -> Vec<DirtyKey> {
        lock(&self.shared.dirty).list()
    }

    /// Takes in keys that an earlier follower changed last. Right after the start, so that they count as older.
    pub fn remember_keys(&self, keys: impl IntoIterator<Item = DirtyKey>) {
        let mut dirty = lock(&self.shared.dirty);
        keys.into_iter().for_each(|key| dirty.add(key));
    }

    /// As [`Follower::stop`], and gives the last distinct keys it changed, whatever came of stopping.
    pub async fn stop_and_list_keys(self, deadline: Duration) -> (Result<FollowStatus>, Vec<DirtyKey>) {
        let dirty = Arc::clone(&self.shared.dirty);
        let outcome = self.stop(deadline).await;
        let keys = lock(&dirty).list();
        (outcome, keys)
    }

    /// Waits until a marker (`pg_logical_emit_message(true, 'migrate', marker)` on blue) and all that blue committed
    /// before it are durable on green. Gives the end of the marker's commit.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when it did not come in time; the follower goes on. Its own error when it failed.
    pub async fn wait_for_marker(&self, marker: &str, deadline: Duration) -> Result<Lsn> {
        let mut status = self.status();
        let arrived = async {
            loop {
                let (durable, failed) = {
                    let now = status.borrow_and_update();
                    (now.durable, now.failed.is_some())
                };
                let found = lock(&self.shared.markers)
                    .iter()
                    .rev()
                    .find(|(text, _)| text == marker)
                    .map(|(_, at)| *at);
                match found {
                    Some(position) if position <= durable => return Ok(position),
                    _ if failed => return Err(self.take_failure()),
                    _ => {}
                }
                if status.changed().await.is_err() {
                    return Err(self.take_failure());
                }
            }
        };
        match tokio::time::timeout(deadline, arrived).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let lag_bytes = self.shared.status.borrow().lag_bytes;
                Err(Error::new(
                    Kind::Deadline,
                    format!(
                        "green did not reach the marker within {deadline:?}; it is {lag_bytes} bytes behind"
                    ),
                )
                .hint("Wait for a quieter moment, or allow a longer pause."))
            }
        }
    }

    /// Stops at the end of a batch: what is applied is whole, durable and told to blue as far as time allows.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when it did not stop in time, and was then cut off, which loses nothing. Its own error when it
    /// had failed.
    pub async fn stop(mut self, deadline: Duration) -> Result<FollowStatus> {
        self.wish.send_modify(|wish| wish.stop = true);
        match tokio::time::timeout(deadline, &mut self.task).await {
            Ok(_) => self.outcome(),
            Err(_) => Err(Error::new(
                Kind::Deadline,
                format!("the follower did not stop within {deadline:?}, and was cut off"),
            )
            .hint("Nothing is lost: the next one goes on from green's progress.")),
        }
    }

    /// Why it failed, if it did. The full error is given once; later it is a sentence.
    pub fn failure(&self) -> Option<Error> {
        let failed = self.shared.status.borrow().failed.is_some();
        failed.then(|| self.take_failure())
    }

    /// Waits until it fails, and says why. The full error is given once; later it is a sentence.
    pub async fn wait_failed(&self) -> Error {
        let mut status = self.status();
        if status.wait_for(|status| status.failed.is_some()).await.is_err() {
            return Error::new(Kind::Bug, "the follower's task is gone");
        }
        self.take_failure()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Why it ended, unless it was told to.
    pub async fn join(mut self) -> Result<FollowStatus> {
        let _ = (&mut self.task).await;
        self.outcome()
    }

    fn outcome(&self) -> Result<FollowStatus> {
        let status = self.shared.status.borrow().clone();
        if status.failed.is_some() { Err(self.take_failure()) } else { Ok(status) }
    }

    fn take_failure(&self) -> Error {
        let sentence = self.shared.status.borrow().failed.clone();
        lock(&self.shared.failure).take().unwrap_or_else(|| {
            Error::new(Kind::Stopped, sentence.unwrap_or_else(|| "the follower has stopped".to_owned()))
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes in what a commit brought. Markers come first: whoever waits looks for them when the status changes.
    fn applied(&self, applied: &Applied, durable: Lsn) {
        let mut markers = lock(&self.markers);
        markers.extend(applied.markers.iter().cloned());
        let surplus = markers.len().saturating_sub(MARKERS_KEPT);
        markers.drain(..surplus);
        drop(markers);
        self.status.send_modify(|status| {
            status.applied = status.applied.max(applied.position);
            status.durable = status.durable.max(durable);
            status.transactions += applied.transactions;
            status.rows += applied.rows;
            status.exempted += applied.exempted;
            status.at_once += applied.at_once;
            status.set_based += applied.set_based;
            status.replayed += applied.replayed;
            status.blue_end = status.blue_end.max(applied.position);
            status.lag_bytes = status.blue_end.bytes_since(status.applied);
            if let Some((marker, _)) = applied.markers.last() {
                status.marker = Some(marker.clone());
            }
        });
    }

    fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.ears.tell(Event::Warning { text });
    }
}

/// The task: sessions one after the other, until one ends by request or by an error that trying again cannot heal.
async fn run(shared: Arc<Shared>, mut wishes: watch::Receiver<Wish>) {
    let mut memory = Memory::new(&shared.spec);
    let ledger = Ledger {
        dirty: Arc::clone(&shared.dirty),
        dirty_limit: shared.spec.dirty_keys,
        exempt: Arc::clone(&shared.exempt),
        backends: Backends::default(),
    };
    let mut blue: Option<Identity> = None;
    let mut patience = trouble::Patience::default();
    loop {
        let before = shared.status.borrow().applied;
        let Err(error) = session::run(&shared, &mut wishes, &mut memory, &ledger, &mut blue).await else {
            return;
        };
        if shared.status.borrow().applied > before {
            patience = trouble::Patience::default();
        }
        let said = error.chain().join(": ");
        if memory.gives_up_streaming(&error) {
            // Nothing of what ran is on green. Blue sends it again, when it has committed.
            shared.warn(format!(
                "blue's large transactions are followed only after their commit from now on: {said}"
            ));
            continue;
        }
        if wishes.borrow().stop && trouble::may_pass(&error) {
            tracing::warn!("following was interrupted when it was told to stop: {said}");
            end_sessions(&shared.spec.green, &ledger.backends).await;
            return;
        }
        match patience.next_wait().filter(|_| trouble::may_pass(&error)) {
            Some(wait) => {
                shared.warn(format!(
                    "following is interrupted, trying again in {} ms: {said}",
                    wait.as_millis()
                ));
                // A request to stop ends the wait; the next session obeys it.
                let _ = tokio::time::timeout(wait, wishes.wait_for(|wish| wish.stop)).await;
            }
            None => {
                *lock(&shared.failure) = Some(error);
                shared.status.send_modify(|status| status.failed = Some(said));
                return;
            }
        }
        if wishes.borrow().stop {
            return;
        }
    }
}

/// Whoever looks at green after a stop must not be overtaken by what is still under way there. When green cannot be reached,
/// nobody looks at it either.
async fn end_sessions(green: &ConnInfo, backends: &Backends) {
    let ended = match connect::connect(green, "apply").await {
        Ok(client) => backends.end_all(&client).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::warn!("our sessions on green may not have ended: {}", error.chain().join(": "));
    }
}
