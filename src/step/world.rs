//! What steps act upon: two databases, a route, a follower, and the right to do so.

use super::{attempt::Attempt, fill_joined, last_keys};
use crate::engine::lease;
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::facts::{Sequence, ServerFacts};
use crate::mapping::{Joining, Mapping};
use crate::pg::{
    connect,
    conninfo::ConnInfo,
    name::{Ident, TableName},
};
use crate::plan::{Plan, Side, Throttle};
use crate::revocation::{
    EarlierLook,
    capture::{Capture, CaptureSpec},
    seal::SealKey,
};
use crate::route::Route;
use crate::stream::follow::{FollowSpec, FollowTable, Follower};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_postgres::{Client, Transaction};

/// A table that is copied and followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicatedTable {
    /// On blue.
    pub blue: TableName,
    /// On green.
    pub green: TableName,
    /// The columns that name a row.
    pub key: Vec<Ident>,
    /// Columns that are carried: all but generated ones. Of a mapped table, blue's.
    pub columns: Vec<Ident>,
    /// How blue's rows become green's, when the shapes differ.
    pub mapping: Option<Arc<Mapping>>,
}

/// What a run is about: fixed when a session opens.
pub struct Setting {
    /// What the operator wrote.
    pub plan: Plan,
    /// Which try this is.
    pub attempt: Attempt,
    /// Blue as it was when the attempt was pinned.
    pub blue_facts: ServerFacts,
    /// The tables that are copied and followed.
    pub tables: Vec<ReplicatedTable>,
    /// The joins of some of those tables.
    pub joinings: Vec<Arc<Joining>>,
    /// Every relation of blue that an application may write to: `tables`, and the partitioned tables above them.
    pub gate_tables: Vec<TableName>,
    /// The same relations as green calls them.
    pub green_gate_tables: Vec<TableName>,
    /// The sequences whose positions are carried.
    pub sequences: Vec<Sequence>,
    /// How to reach blue, under our epoch.
    pub blue_info: ConnInfo,
    /// How to reach green, under our epoch.
    pub green_info: ConnInfo,
    /// Our epoch; the same on both sides.
    pub epoch: i64,
    /// Who is told.
    pub ears: Ears,
    /// What sends clients to blue or green.
    pub route: Option<Route>,
    /// The newest limits of the copy, which may change while it runs.
    pub throttle: watch::Receiver<Throttle>,
}

/// What steps act upon: the setting (reached as the world's own fields), and what lives in this process.
pub struct World {
    setting: Setting,
    /// Carries blue's changes; set while one runs in this process.
    pub follower: Mutex<Option<Follower>>,
    /// Captures revocations; set while one runs in this process.
    pub capture: Mutex<Option<Capture>>,
    paused_at: std::sync::Mutex<Option<Instant>>,
    looked_early: std::sync::Mutex<Option<Arc<EarlierLook>>>,
    blue: Mutex<Client>,
    green: Mutex<Client>,
}

impl std::ops::Deref for World {
    type Target = Setting;

    fn deref(&self) -> &Setting {
        &self.setting
    }
}

impl World {
    /// Opens the connections.
    pub async fn open(setting: Setting) -> Result<World> {
        let blue = connect::connect(&setting.blue_info, "steps").await?;
        let green = connect::connect(&setting.green_info, "steps").await?;
        Ok(World {
            setting,
            follower: Mutex::new(None),
            capture: Mutex::new(None),
            paused_at: std::sync::Mutex::new(None),
            looked_early: std::sync::Mutex::new(None),
            blue: Mutex::new(blue),
            green: Mutex::new(green),
        })
    }

    /// The steps' own connection to a side, opened anew if it broke.
    pub async fn client(&self, side: Side) -> Result<MutexGuard<'_, Client>> {
        let mut client = match side {
            Side::Blue => self.blue.lock().await,
            Side::Green => self.green.lock().await,
        };
        if client.is_closed() {
            *client = connect::connect(self.info(side), "steps").await?;
        }
        Ok(client)
    }

    /// Opens the steps' connections anew, whatever the old ones are waiting for: a statement that hangs would hold up
    /// every one behind it.
    pub async fn reconnect(&self) -> Result<()> {
        *self.blue.lock().await = connect::connect(&self.blue_info, "steps").await?;
        *self.green.lock().await = connect::connect(&self.green_info, "steps").await?;
        Ok(())
    }

    /// How to reach a side.
    pub fn info(&self, side: Side) -> &ConnInfo {
        match side {
            Side::Blue => &self.blue_info,
            Side::Green => &self.green_info,
        }
    }

    /// Begins a transaction that has proved our lease, with a lock timeout of two seconds.
    pub async fn transaction<'c>(&self, client: &'c mut Client, doing: &str) -> Result<Transaction<'c>> {
        lease::transaction(client, self.epoch, doing).await
    }

    /// Proves our lease just before an effect that no transaction of ours can carry: a slot, a file, a pooler.
    pub async fn prove_lease(&self) -> Result<()> {
        self.prove_lease_on(Side::Blue).await?;
        self.prove_lease_on(Side::Green).await
    }

    /// Proves our lease on one side.
    pub async fn prove_lease_on(&self, side: Side) -> Result<()> {
        lease::guard(&*self.client(side).await?, self.epoch).await
    }

    /// How much of the pause budget is left; all of it while clients are not held.
    pub fn pause_left(&self) -> Duration {
        self.plan.cutover.pause_max.0.saturating_sub(self.held_for().unwrap_or_default())
    }

    /// Like [`World::pause_left`], and an error once nothing is left.
    pub fn pause_budget(&self, doing: &str) -> Result<Duration> {
        let left = self.pause_left();
        if left.is_zero() {
            return Err(Error::new(
                Kind::Deadline,
                format!(
                    "the pause budget of {} was used up before we could {doing}",
                    self.plan.cutover.pause_max
                ),
            )
            .hint("clients go on as before; raise cutover.pause_max, or choose a quieter hour"));
        }
        Ok(left)
    }

    /// How long clients have been held; `None` while they are not.
    pub fn held_for(&self) -> Option<Duration> {
        self.paused_at.lock().ok().and_then(|paused_at| paused_at.map(|at| at.elapsed()))
    }

    /// Says that clients are held from now on, or no longer.
    pub fn set_paused(&self, at: Option<Instant>) {
        if let Ok(mut paused_at) = self.paused_at.lock() {
            *paused_at = at;
        }
    }

    /// What this process looked at of the revocations before it held clients; `None` when it has not.
    pub fn looked_early(&self) -> Option<Arc<EarlierLook>> {
        self.looked_early.lock().ok().and_then(|look| look.clone())
    }

    /// Remembers a look at the revocations that are effective on green.
    pub fn set_looked_early(&self, look: EarlierLook) {
        if let Ok(mut looked_early) = self.looked_early.lock() {
            *looked_early = Some(Arc::new(look));
        }
    }

    /// The tables of green that are written to, once each: several of blue's may become one of them.
    pub fn green_tables(&self) -> Vec<TableName> {
        let joined = self.joinings.iter().map(|joining| &joining.green);
        let tables: BTreeSet<&TableName> =
            self.tables.iter().map(|table| &table.green).chain(joined).collect();
        tables.into_iter().cloned().collect()
    }

    /// Tells those who watch.
    pub fn note(&self, text: impl Into<String>) {
        self.ears.tell(Event::Note { text: text.into() });
    }

    /// Tells those who watch of something to act upon.
    pub fn warn(&self, text: impl Into<String>) {
        self.ears.tell(Event::Warning { text: text.into() });
    }

    /// Begins to follow blue in this process, from where green's progress says; nothing when we do already.
    pub async fn start_following(&self) -> Result<()> {
        let mut follower = self.follower.lock().await;
        if follower.is_none() {
            let tables = self.tables.iter().map(|table| FollowTable {
                blue: table.blue.clone(),
                green: table.green.clone(),
                key: table.key.clone(),
                mapping: table.mapping.clone(),
            });
            let known = last_keys::load(self).await;
            let started = Follower::start(
                FollowSpec {
                    blue: self.blue_info.clone(),
                    green: self.green_info.clone(),
                    slot: self.attempt.slot(),
                    publication: self.attempt.publication(),
                    attempt: self.attempt.number,
                    epoch: self.epoch,
                    tables: tables.collect(),
                    joined: fill_joined::to_keep(self).await?,
                    dirty_keys: super::compare_keys::KEYS,
                    retained_wal_max_bytes: self.plan.replicate.retained_wal_max.0,
                },
                self.ears.clone(),
            );
            started.remember_keys(known);
            *follower = Some(started);
        }
        Ok(())
    }

    /// From now on green's commits are durable when they return: the fence must not wait for a flush to come by.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when that is not in force within ten seconds.
    pub async fn follow_durably(&self) -> Result<()> {
        match self.follower.lock().await.as_ref() {
            Some(follower) => follower.durable(true).await,
            None => Ok(()),
        }
    }

    /// Stops following at a batch boundary, and leaves the keys changed last to the next one that follows.
    pub async fn stop_following(&self) -> Result<()> {
        let Some(follower) = self.follower.lock().await.take() else { return Ok(()) };
        let (stopped, keys) = follower.stop_and_list_keys(STOP_DEADLINE).await;
        last_keys::keep(self, &keys).await;
        stopped.map(|_| ())
    }

    /// Writes down the keys changed last, for whoever follows after us if we die.
    pub async fn keep_last_keys(&self) {
        let keys = self.follower.lock().await.as_ref().map(Follower::dirty_keys).unwrap_or_default();
        last_keys::keep(self, &keys).await;
    }

    /// Begins to capture revocations in this process; nothing when the plan has no rules or we do already.
    pub async fn start_capturing(&self) -> Result<()> {
        let mut capture = self.capture.lock().await;
        let dead = capture.as_ref().is_some_and(|capture| capture.status().failed.is_some());
        if dead {
            *capture = None;
        }
        if let (None, Some(spec)) = (&*capture, self.capture_spec()?) {
            *capture = Some(Capture::start(spec, self.ears.clone()));
        }
        Ok(())
    }

    /// Stops capturing; blue's slot keeps the place.
    pub async fn stop_capturing(&self) -> Result<()> {
        match self.capture.lock().await.take() {
            Some(capture) => capture.stop().await,
            None => Ok(()),
        }
    }

    /// Whether revocations are captured, as far as the plan has rules.
    pub async fn captures(&self) -> bool {
        let capture = self.capture.lock().await;
        self.plan.revocations.is_empty()
            || capture.as_ref().is_some_and(|capture| capture.status().is_alive())
    }

    /// Fails once the follower or the capture has failed for good.
    pub async fn followers_health(&self) -> Result<()> {
        let follower = self.follower.lock().await;
        let failed = match follower.as_ref() {
            Some(follower) if follower.status().borrow().failed.is_some() => {
                Some(follower.wait_failed().await)
            }
            Some(_) => None,
            None => None,
        };
        if let Some(error) = failed {
            return Err(error);
        }
        let capture = self.capture.lock().await;
        match capture.as_ref().and_then(|capture| capture.status().failed) {
            Some(failed) => {
                Err(Error::new(Kind::Stopped, format!("revocations are not captured any more: {failed}"))
                    .hint("see to the cause, then run the same command again"))
            }
            None => Ok(()),
        }
    }

    /// What a capture or a replay needs; `None` when the plan has no rules.
    pub fn capture_spec(&self) -> Result<Option<CaptureSpec>> {
        let Some(broker) = self.plan.broker.as_ref().filter(|_| !self.plan.revocations.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(CaptureSpec {
            blue: self.blue_info.clone(),
            green: self.green_info.clone(),
            broker: broker.url.clone(),
            seal: SealKey::of(broker)?,
            plan: self.plan.name.clone(),
            attempt: self.attempt.number,
            epoch: self.epoch,
            slot: self.attempt.capture_slot(),
            publication: self.attempt.capture_publication(),
            rules: self.plan.revocations.clone(),
        }))
    }
}

/// How long a follower may take to reach the end of its batch.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
