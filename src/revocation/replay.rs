//! Empties the queue into ledger and effect, each message once however often it comes, in any order.
//!
//! # Why a key that was issued anew lives
//!
//! A message that green already carries (in `stream` mode every one, once the stream has applied its commit; in
//! `snapshot` mode those older than the copy) is only *confirmed*: the replay acts on it when all of this holds:
//! the rule's `valid` query finds the key on green; blue, fenced and readable, still holds it revoked, so that no
//! later write of blue issued it anew; and the row was not written since green opened, so that no application did.
//! Run it after the drain, when blue's state is final. A message that green does not carry (`snapshot` mode, younger
//! than the copy) acts on rows that were not written since green opened: what is there is the copy's row, older than
//! the revocation. One gap is left: an application transaction that had its id before green opened, and wrote the
//! key after, passes for older.

mod apply;

use super::broker::{Arrived, Queues, Reader};
use super::ledger::{self, Accounts};
use super::message::{self, Content, Context, Message, Unusable};
use super::retry::{Waits, may_pass};
use super::seal::SealKey;
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::connect::connect;
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use crate::plan::{RevocationRule, Secret};
use apply::{Applier, Used};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a read waits for the first message.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long the queue must be empty before books that disagree are called wrong.
const QUIET: Duration = Duration::from_secs(2);

/// All that a replay needs.
#[derive(Clone)]
pub struct ReplaySpec {
    /// Asked whether a key is still revoked there.
    pub blue: ConnInfo,
    /// Where revocations become effective.
    pub green: ConnInfo,
    /// The broker's URL.
    pub broker: Secret,
    /// Opens the messages, when the plan has a key.
    pub seal: Option<SealKey>,
    /// The plan's name.
    pub plan: String,
    /// The try this is.
    pub attempt: i32,
    /// The lease's epoch.
    pub epoch: i64,
    /// The plan's rules.
    pub rules: Vec<RevocationRule>,
    /// What the effects' session is.
    pub session: EffectSession,
    /// When it is at its end.
    pub extent: Extent,
    /// What green has without the replay.
    pub carried: Carried,
}

impl ReplaySpec {
    fn context(&self) -> Context {
        Context { plan: self.plan.clone(), attempt: self.attempt }
    }
}

/// What the session is in which effects happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectSession {
    /// `session_replication_role = replica`: gets past green's closed gate. Triggers and cascades do not run either.
    PastTheGate,
    /// An ordinary one, which green's closed gate lets pass, since each transaction opens it for itself alone: cascades run.
    ThroughTheGate,
    /// An ordinary one, for an open green: cascades run.
    Ordinary,
}

/// How far a replay goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Until the queue has nothing more just now. Nothing is proved; it makes what is left for later less.
    Backlog,
    /// Until the books agree. Repetitions may be left in the queue. Only after the capture's END.
    Books,
    /// Until the books agree and the queue is empty.
    Whole,
}

/// What green has of blue without the replay.
#[derive(Debug, Clone)]
pub enum Carried {
    /// `stream` mode: everything up to the position applied. A message waits until its commit is.
    Stream {
        /// How far green is. It only grows.
        applied: watch::Receiver<Lsn>,
    },
    /// `snapshot` mode: the copy.
    Copy {
        /// The copy's moment: what committed before it is on green.
        consistent_point: Lsn,
    },
}

impl Carried {
    /// Whether green has what committed there, now or after [`Carried::wait_for`].
    fn has(&self, commit_lsn: Lsn) -> bool {
        match self {
            Carried::Stream { .. } => true,
            Carried::Copy { consistent_point } => commit_lsn < *consistent_point,
        }
    }

    /// Waits until green has what it will ever have of a commit.
    async fn wait_for(&mut self, commit_lsn: Lsn, deadline: Instant) -> Result<()> {
        let Carried::Stream { applied } = self else { return Ok(()) };
        let reached = applied.wait_for(|position| *position >= commit_lsn);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::new(
                Kind::Stopped,
                format!("the stream ended before it reached a revocation at {commit_lsn}"),
            )),
            Err(_) => Err(Error::new(
                Kind::Deadline,
                format!("green has not applied blue's commit at {commit_lsn}, which a revocation waits for"),
            )),
        }
    }
}

/// What a replay that came to its end did. Nothing is parked and nothing is missing, or it would be an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayEnd {
    /// Revocations whose effect touched rows.
    pub replayed: u64,
    /// Revocations that were effective already.
    pub already_effective: u64,
}

/// Works the queue off, as far as its extent says: usually until every producer's END is processed and the books agree.
///
/// A crash anywhere leaves a ledger row for exactly the effects that are committed; the broker delivers the rest
/// again.
///
/// # Errors
/// [`Kind::Gate`] when messages are parked or the books disagree with the queue empty; [`Kind::Deadline`] when an END
/// does not come in time, or a server stays away; [`Kind::Lease`] when somebody took over.
pub async fn replay(spec: ReplaySpec, deadline: Instant, ears: Ears) -> Result<ReplayEnd> {
    let mut waits = Waits::default();
    let mut replayer = Replayer { queues: Queues::of(&spec.context()), spec, deadline, ears };
    loop {
        match tokio::time::timeout_at(deadline, replayer.session()).await {
            Ok(Err(error)) if may_pass(&error) && Instant::now() < deadline => {
                tracing::warn!(why = %error.chain().join(": "), "replay of revocations begins anew");
                tokio::time::sleep(waits.next()).await;
            }
            Ok(outcome) => return outcome,
            Err(_) => return Err(replayer.too_late().await),
        }
    }
}

struct Replayer {
    spec: ReplaySpec,
    queues: Queues,
    deadline: Instant,
    ears: Ears,
}

impl Replayer {
    /// One stretch, until the end or until something breaks. A message unacknowledged then comes again.
    async fn session(&mut self) -> Result<ReplayEnd> {
        let mut applier = Applier::begin(&self.spec).await?;
        let mut reader = Reader::open(&self.spec.broker, &self.queues).await?;
        let mut quiet_since = Instant::now();
        let mut was_empty = false;
        loop {
            if self.spec.extent == Extent::Books && self.has_settled(&applier).await? {
                return self.end(&applier, reader).await;
            }
            let batch = reader.next_batch(PATIENCE).await?;
            if !batch.is_empty() {
                self.work_off(&mut applier, &reader, batch).await?;
                // As long as clients revoke, the queue is never empty for long: what came meanwhile is little.
                if self.spec.extent == Extent::Backlog && reader.ready().await? == 0 {
                    return self.end(&applier, reader).await;
                }
                (quiet_since, was_empty) = (Instant::now(), false);
                continue;
            }
            // What the broker had given out before it said "empty" has arrived by the next round, so two rounds tell.
            let is_empty = std::mem::replace(&mut was_empty, reader.ready().await? == 0) && was_empty;
            if !is_empty {
                continue;
            }
            if self.spec.extent == Extent::Backlog {
                return self.end(&applier, reader).await;
            }
            match ledger::accounts(applier.green(), self.spec.attempt).await? {
                Accounts::Settled => return self.end(&applier, reader).await,
                Accounts::Waiting(why) => tracing::debug!(%why, "replay of revocations waits"),
                Accounts::Mismatch(why) if quiet_since.elapsed() >= QUIET => {
                    nothing_parked(&applier).await?;
                    return Err(does_not_add_up(&why));
                }
                Accounts::Mismatch(_) => {}
            }
        }
    }

    async fn has_settled(&self, applier: &Applier) -> Result<bool> {
        Ok(ledger::accounts(applier.green(), self.spec.attempt).await? == Accounts::Settled)
    }

    async fn end(&self, applier: &Applier, reader: Reader) -> Result<ReplayEnd> {
        nothing_parked(applier).await?;
        let end = applier.end().await?;
        reader.close().await;
        Ok(end)
    }

    async fn work_off(&mut self, applier: &mut Applier, reader: &Reader, batch: Vec<Arrived>) -> Result<()> {
        let read: Vec<_> = batch.iter().map(|arrived| self.read(arrived.body())).collect();
        let newest = read.iter().filter_map(|read| match read {
            Ok(Message { content: Content::Revocation(revocation), .. }) => Some(revocation.commit_lsn),
            _ => None,
        });
        if let Some(newest) = newest.max() {
            self.spec.carried.wait_for(newest, self.deadline).await?;
        }
        let bodies: Vec<&[u8]> = batch.iter().map(Arrived::body).collect();
        let used = applier.apply(&self.spec, &bodies, read).await?;
        let (mut done, mut parked) = (Vec::new(), Vec::new());
        for (arrived, used) in batch.into_iter().zip(used) {
            match used {
                Used::Done => done.push(arrived),
                Used::Parked(why) => {
                    self.ears.tell(Event::Warning { text: format!("a revocation message is parked: {why}") });
                    parked.push(arrived);
                }
            }
        }
        reader.acknowledge(&done).await?;
        reader.park(&parked).await
    }

    /// Reads a message and looks whether the plan can use it.
    fn read(&self, body: &[u8]) -> Result<Message, Unusable> {
        let message = message::read(body, &self.spec.context(), self.spec.seal.as_ref())?;
        if let Content::Revocation(revocation) = &message.content {
            let rule = self.spec.rules.iter().find(|rule| rule.name == revocation.rule);
            let rule = rule.ok_or_else(|| Unusable::UnknownRule(revocation.rule.clone()))?;
            let (found, expected) = (revocation.key.len(), rule.key.len());
            if found != expected {
                return Err(Unusable::KeyShape { rule: rule.name.clone(), found, expected });
            }
        }
        Ok(message)
    }

    async fn too_late(&self) -> Error {
        let error = Error::new(Kind::Deadline, "revocations are not replayed to their end in time");
        let why = async {
            let green = connect(&self.spec.green, "replay").await?;
            ledger::accounts(&green, self.spec.attempt).await
        };
        match why.await {
            Ok(Accounts::Waiting(why) | Accounts::Mismatch(why)) => error.hint(why),
            Ok(Accounts::Settled) | Err(_) => error,
        }
    }
}

fn does_not_add_up(why: &str) -> Error {
    Error::new(Kind::Gate, format!("revocations do not add up: {why}")).hint(
        "Messages were lost or added between capture and replay. Find out which before anybody relies on green.",
    )
}

async fn nothing_parked(applier: &Applier) -> Result<()> {
    match ledger::count_parked(applier.green()).await? {
        0 => Ok(()),
        parked => Err(Error::new(
            Kind::Gate,
            format!("{parked} revocation message(s) could not be used and are parked"),
        )
        .hint("`select id, reason from migrate.revocation_parked` on green says which and why.")),
    }
}
