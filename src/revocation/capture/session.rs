//! One stretch of capturing, from the recorded position until something breaks.

use super::{CaptureEnd, CaptureSpec, FinishOrder, Worker};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::pg::connect::connect;
use crate::pg::lsn::Lsn;
use crate::pg::replication::{Frame, ReplicationConn, ReplicationStream};
use crate::revocation::broker::{Outgoing, Publisher, Queues};
use crate::revocation::ledger::{self, Recorded};
use crate::revocation::message::{self, Content, End, Message, MessageId, Revocation};
use crate::revocation::predicate::Judge;
use crate::revocation::rule::Found;
use crate::revocation::transaction::{Gatherer, Transaction};
use crate::stream::pgoutput;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

/// Changes that are judged and published together, at most.
const BATCH_CHANGES: usize = 2_000;
/// Transactions without a revocation cost nothing, but have an end too.
const BATCH_TRANSACTIONS: usize = 500;
/// Messages that are sealed and published before blue hears of us again.
const PUBLISHED_AT_ONCE: usize = 2_000;
/// How long the first transaction of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// How often an idle capture records how far it is, and looks whether the broker is still there.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// All connections of one stretch, and where it is.
pub(super) struct Session {
    spec: Arc<CaptureSpec>,
    green: Client,
    judge: Judge,
    publisher: Publisher,
    stream: ReplicationStream,
    gatherer: Gatherer,
    recorded: Recorded,
    recorded_at: Instant,
    /// Everything of blue's log before it was read. Kept from batch to batch: an idle server says it once.
    read_to: Lsn,
}

/// What was read of blue's log in one go.
struct Batch {
    transactions: Vec<Transaction>,
    changes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.changes >= BATCH_CHANGES || self.transactions.len() >= BATCH_TRANSACTIONS
    }
}

impl Session {
    /// Connects everything. Nothing is read before the broker is there.
    pub(super) async fn begin(spec: &Arc<CaptureSpec>) -> Result<Session> {
        let (blue, green) = (spec.blue.acting_as(spec.epoch), spec.green.acting_as(spec.epoch));
        let mut green = connect(&green, "capture").await?;
        green
            .batch_execute(
                "set synchronous_commit = on; set statement_timeout = '30s'; set lock_timeout = '30s'",
            )
            .await
            .doing(Kind::Connect, || "cannot set up the capture's session on green".into())?;
        let asking = connect(&blue, "capture").await?;
        let slot = ledger::read_slot(&asking, &spec.slot).await?;
        let judge = Judge::new(asking, &spec.rules).await?;
        let publisher = Publisher::open(&spec.broker, &Queues::of(&spec.context())).await?;
        let producer = (spec.slot.as_str(), spec.attempt);
        let recorded = ledger::resume_capture(&mut green, spec.epoch, producer, slot.confirmed).await?;
        let publications = std::slice::from_ref(&spec.publication);
        let stream = ReplicationConn::connect(&blue, "capture")
            .await?
            .start(&spec.slot, recorded.position, publications, slot.version_num)
            .await?;
        let gatherer = Gatherer::new(&spec.rules);
        let (spec, recorded_at) = (spec.clone(), Instant::now());
        let read_to = recorded.position;
        Ok(Session { spec, green, judge, publisher, stream, gatherer, recorded, recorded_at, read_to })
    }

    /// Captures until something breaks.
    pub(super) async fn run(mut self, worker: &mut Worker) -> Result<Infallible> {
        self.confirm(worker).await?;
        loop {
            let batch = self.read(worker).await?;
            self.carry(batch, worker).await?;
            self.answer_orders(worker).await?;
            if !self.publisher.is_connected() {
                return Err(Error::new(Kind::Connect, "the connection to RabbitMQ ended"));
            }
        }
    }

    /// Reads until a batch is full, its time is over, or somebody gave an order.
    async fn read(&mut self, worker: &mut Worker) -> Result<Batch> {
        let mut batch = Batch { transactions: Vec::new(), changes: 0 };
        let mut until = Instant::now() + IDLE_TICK;
        while !batch.is_full() {
            tokio::select! {
                biased;
                frame = self.stream.next() => {
                    if self.take(frame?, &mut batch).await? {
                        until = until.min(Instant::now() + BATCH_WAIT);
                    }
                }
                Some(order) = worker.orders.recv() => {
                    worker.pending.push(order);
                    until = until.min(Instant::now() + BATCH_WAIT);
                }
                () = tokio::time::sleep_until(until) => break,
            }
            // The stream may always have something, so the clock is looked at here too.
            if Instant::now() >= until {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes a frame; says whether it brought a change that should not wait.
    async fn take(&mut self, frame: Frame, batch: &mut Batch) -> Result<bool> {
        match frame {
            Frame::Keepalive { wal_end, reply_requested } => {
                // Inside of a transaction, what came so far is not everything before that position.
                if !self.gatherer.is_inside() {
                    self.read_to = self.read_to.max(wal_end);
                }
                if reply_requested {
                    self.tell_blue().await?;
                }
                Ok(!self.is_recorded(self.read_to))
            }
            Frame::Data { body, .. } => {
                let decoded = pgoutput::decode(body);
                let message = decoded.doing(Kind::Server, || "blue sent what is not pgoutput".into())?;
                let Some(transaction) = self.gatherer.take(message)? else { return Ok(false) };
                // The server sends again what begins before the position it was asked for.
                if transaction.end_lsn > self.recorded.position {
                    self.read_to = self.read_to.max(transaction.end_lsn);
                    batch.changes += transaction.changes.len();
                    batch.transactions.push(transaction);
                }
                Ok(true)
            }
        }
    }

    fn is_recorded(&self, position: Lsn) -> bool {
        position <= self.recorded.position
    }

    /// Publishes what a batch revokes, and records that it is done.
    async fn carry(&mut self, batch: Batch, worker: &Worker) -> Result<()> {
        for transaction in &batch.transactions {
            say_truncated(transaction, worker);
        }
        let mut next = self.recorded;
        next.position = self.read_to;
        self.publish(&batch.transactions, &mut next).await?;
        // An order waits for a position; otherwise one without a message can wait for the next tick.
        let due = next.messages > self.recorded.messages
            || !worker.pending.is_empty()
            || self.recorded_at.elapsed() >= IDLE_TICK;
        if !due || self.is_recorded(next.position) {
            return Ok(());
        }
        let transaction = ledger::begin(&mut self.green, self.spec.epoch).await?;
        ledger::record_capture(&transaction, (&self.spec.slot, self.spec.attempt), &next).await?;
        ledger::commit(transaction).await?;
        (self.recorded, self.recorded_at) = (next, Instant::now());
        self.confirm(worker).await
    }

    /// Publishes what transactions revoke, and counts it. When this returns, every message is confirmed.
    async fn publish(&mut self, transactions: &[Transaction], counted: &mut Recorded) -> Result<()> {
        let found = self.judge.judge(transactions).await?;
        let messages: Vec<Message> = transactions
            .iter()
            .zip(found)
            .flat_map(|(transaction, found)| found.into_iter().map(|found| (transaction.commit_lsn, found)))
            .map(|(commit_lsn, found)| self.revocation(commit_lsn, found))
            .collect();
        for slice in messages.chunks(PUBLISHED_AT_ONCE) {
            let outgoing: Vec<Outgoing> =
                slice.iter().map(|message| self.seal(message)).collect::<Result<_>>()?;
            self.publisher.publish(&outgoing).await?;
            // One transaction may revoke a million keys, and blue ends a stream that it does not hear of.
            self.tell_blue().await?;
        }
        counted.messages += messages.len() as u64;
        messages.iter().for_each(|message| counted.ids_hash.add(message.id.as_str()));
        Ok(())
    }

    fn revocation(&self, commit_lsn: Lsn, found: Found) -> Message {
        Message {
            id: MessageId::of_revocation(self.spec.attempt, commit_lsn, found.ordinal),
            producer: self.spec.slot.clone(),
            content: Content::Revocation(Revocation { rule: found.rule, key: found.key, commit_lsn }),
        }
    }

    fn seal(&self, message: &Message) -> Result<Outgoing> {
        let body = message::write(message, &self.spec.context(), self.spec.seal.as_ref())?;
        Ok(Outgoing { id: message.id.as_str().to_owned(), body })
    }

    /// Blue may forget what is recorded on green, and nothing more.
    async fn confirm(&mut self, worker: &Worker) -> Result<()> {
        self.tell_blue().await?;
        let Recorded { position, messages, .. } = self.recorded;
        worker.status.send_modify(|status| {
            status.position = position;
            status.messages = messages;
        });
        Ok(())
    }

    async fn tell_blue(&mut self) -> Result<()> {
        let position = self.recorded.position;
        self.stream.status(position, position, position).await
    }

    async fn answer_orders(&mut self, worker: &mut Worker) -> Result<()> {
        let reached = |order: &mut FinishOrder| order.lsn <= self.recorded.position;
        let orders: Vec<_> = worker.pending.extract_if(.., reached).collect();
        for order in orders {
            // Who no longer waits (the deadline passed) needs no END.
            if !order.done.is_closed() {
                let end = self.end(order.lsn).await?;
                let _ = order.done.send(end);
            }
        }
        worker.pending.retain(|order| !order.done.is_closed());
        Ok(())
    }

    async fn end(&mut self, lsn: Lsn) -> Result<CaptureEnd> {
        let Recorded { messages, ids_hash, .. } = self.recorded;
        let end = Message {
            id: MessageId::of_end(self.spec.attempt, lsn),
            producer: self.spec.slot.clone(),
            content: Content::End(End { commit_lsn: lsn, messages, ids_hash }),
        };
        let end = self.seal(&end)?;
        self.publisher.publish(&[end]).await?;
        let transaction = ledger::begin(&mut self.green, self.spec.epoch).await?;
        ledger::end_capture(&transaction, &self.spec.slot).await?;
        ledger::commit(transaction).await?;
        Ok(CaptureEnd { messages, ids_hash })
    }
}

fn say_truncated(transaction: &Transaction, worker: &Worker) {
    for table in &transaction.truncated {
        let text = format!(
            "{} was truncated on blue at {}: its rows are gone, but a TRUNCATE names none, so no revocation was captured",
            table.plain(),
            transaction.commit_lsn
        );
        worker.ears.tell(Event::Warning { text });
    }
}
