//! Fills the queue: reads blue's log through a slot of its own, finds revocations, publishes them, and writes on green
//! how far it is once the broker has confirmed them.
//!
//! The order is the whole safety: publish, confirm, record on green, and only then let blue forget. A crash anywhere
//! in between publishes the same messages again under the same ids. With the broker (or green) away, nothing moves
//! and blue's log is the buffer; blue's applications notice nothing.

mod session;

use super::message::{Context, IdsHash};
use super::retry::{Waits, may_pass};
use super::seal::SealKey;
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use crate::plan::{RevocationRule, Secret};
use session::Session;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// All that a capture needs.
#[derive(Clone)]
pub struct CaptureSpec {
    /// Where revocations happen.
    pub blue: ConnInfo,
    /// Where the position is recorded.
    pub green: ConnInfo,
    /// The broker's URL.
    pub broker: Secret,
    /// Seals the messages, when the plan has a key.
    pub seal: Option<SealKey>,
    /// The plan's name.
    pub plan: String,
    /// The try this is; names queue and messages.
    pub attempt: i32,
    /// The lease's epoch: when it is over, so are we.
    pub epoch: i64,
    /// The slot on blue, of pgoutput, made before the copy. It also names this producer.
    pub slot: String,
    /// The publication on blue of the rules' tables.
    pub publication: String,
    /// What counts as a revocation.
    pub rules: Vec<RevocationRule>,
}

impl CaptureSpec {
    fn context(&self) -> Context {
        Context { plan: self.plan.clone(), attempt: self.attempt }
    }
}

/// Where a capture is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureStatus {
    /// Everything of blue's log before it is published, confirmed and recorded; what blue keeps begins here.
    pub position: Lsn,
    /// Distinct messages since the attempt began.
    pub messages: u64,
    /// Why nothing moves just now; it is being tried again.
    pub trouble: Option<String>,
    /// Why it ended for good.
    pub failed: Option<String>,
}

impl CaptureStatus {
    /// Whether revocations flow: the gate `capture alive`.
    pub fn is_alive(&self) -> bool {
        self.position > Lsn(0) && self.trouble.is_none() && self.failed.is_none()
    }
}

/// What a capture counted up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureEnd {
    /// Distinct messages since the attempt began.
    pub messages: u64,
    /// Their ids' hash.
    pub ids_hash: IdsHash,
}

/// "Publish everything up to here, then END, and tell me."
struct FinishOrder {
    lsn: Lsn,
    done: oneshot::Sender<CaptureEnd>,
}

/// A capture that runs in a task of its own. Dropping it ends it as a crash would: nothing is lost.
pub struct Capture {
    orders: mpsc::Sender<FinishOrder>,
    status: watch::Receiver<CaptureStatus>,
    task: JoinHandle<Result<()>>,
}

impl Capture {
    /// Starts one. It returns at once; [`Capture::status`] says how it fares.
    pub fn start(spec: CaptureSpec, ears: Ears) -> Capture {
        let (orders, receiver) = mpsc::channel(4);
        let (sender, status) = watch::channel(CaptureStatus::default());
        let spec = Arc::new(spec);
        let worker = Worker { spec, ears, orders: receiver, pending: Vec::new(), status: sender };
        Capture { orders, status, task: tokio::spawn(worker.run()) }
    }

    /// Where it is.
    pub fn status(&self) -> CaptureStatus {
        self.status.borrow().clone()
    }

    /// Follows where it is.
    pub fn watch(&self) -> watch::Receiver<CaptureStatus> {
        self.status.clone()
    }

    /// Waits until every revocation that committed on blue before `lsn` is published, confirmed and recorded, and END
    /// with their count and hash is behind them in the queue. The capture goes on; ask again after more was written.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when that does not happen in time (END may still come); [`Kind::Stopped`] when the capture
    /// has failed.
    pub async fn finish_at(&self, lsn: Lsn, deadline: Instant) -> Result<CaptureEnd> {
        let (done, ended) = oneshot::channel();
        let finishing = async {
            let order = FinishOrder { lsn, done };
            self.orders.send(order).await.map_err(|_| self.gone())?;
            ended.await.map_err(|_| self.gone())
        };
        tokio::time::timeout_at(deadline, finishing).await.unwrap_or_else(|_| {
            let status = self.status();
            let error = Error::new(
                Kind::Deadline,
                format!(
                    "the capture of revocations is at {}, and did not reach {lsn} in time",
                    status.position
                ),
            );
            Err(match status.trouble {
                Some(trouble) => error.hint(trouble),
                None => error,
            })
        })
    }

    fn gone(&self) -> Error {
        let why = self.status().failed.unwrap_or_else(|| "it was stopped".into());
        Error::new(Kind::Stopped, format!("the capture of revocations has ended: {why}"))
    }

    /// Ends it, wherever it is. What was not recorded is published again by the next one.
    ///
    /// # Errors
    /// What ended it, if it had failed before.
    pub async fn stop(mut self) -> Result<()> {
        self.task.abort();
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(aborted) if aborted.is_cancelled() => Ok(()),
            Err(panicked) => {
                Err(Error::new(Kind::Bug, "the capture of revocations panicked").source(panicked))
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    spec: Arc<CaptureSpec>,
    ears: Ears,
    orders: mpsc::Receiver<FinishOrder>,
    pending: Vec<FinishOrder>,
    status: watch::Sender<CaptureStatus>,
}

impl Worker {
    /// One session after another: each begins from what is recorded, as after a crash.
    async fn run(mut self) -> Result<()> {
        let mut waits = Waits::default();
        loop {
            let before = self.status.borrow().position;
            let Err(error) = self.session().await;
            if !may_pass(&error) {
                let why = error.chain().join(": ");
                self.ears.tell(Event::Warning { text: format!("the capture of revocations stopped: {why}") });
                self.status.send_modify(|status| status.failed = Some(why));
                return Err(error);
            }
            if self.status.borrow().position > before {
                waits.reset();
            }
            self.say_trouble(&error);
            tokio::time::sleep(waits.next()).await;
        }
    }

    async fn session(&mut self) -> Result<std::convert::Infallible> {
        let session = Session::begin(&self.spec).await?;
        self.say_recovered();
        session.run(self).await
    }

    /// Tells a new trouble once, not at every try.
    fn say_trouble(&self, error: &Error) {
        let trouble = error.chain().join(": ");
        tracing::warn!(%trouble, "capture of revocations");
        if self.status.borrow().trouble.is_none() {
            let text = format!("revocations are not captured just now, and blue's log keeps them: {trouble}");
            self.ears.tell(Event::Warning { text });
        }
        self.status.send_modify(|status| status.trouble = Some(trouble));
    }

    fn say_recovered(&self) {
        if self.status.borrow().trouble.is_some() {
            self.ears.tell(Event::Note { text: "revocations are captured again".into() });
        }
        self.status.send_modify(|status| status.trouble = None);
    }
}
