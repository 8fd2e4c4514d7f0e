//! Taking changes from blue's slot, beside the applying: frames are decoded and handed over in parcels, and blue hears
//! of us in time even while green is slow.

use super::pgoutput::Message;
use super::pgoutput::streaming::{Decoder, Streamed};
use crate::error::{Doing, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::replication::{Frame, ReplicationStream};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// A parcel is handed over when it holds this much, or when blue has nothing more for the moment.
const PARCEL_EVENTS: usize = 512;
const PARCEL_BYTES: usize = 256 << 10;

/// What may wait between reading and applying.
pub(super) const WAITING_PARCELS: usize = 64;
pub(super) const WAITING_BYTES: u32 = 32 << 20;

/// How often we look whether blue should hear of new positions, and how often it hears of us anyway.
const FEEDBACK_EVERY: Duration = Duration::from_millis(200);
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(1);

/// Something to apply.
pub(super) enum Event {
    /// A message of the plugin, and its length.
    Message(Streamed, u64),
    /// Nothing for us lies before this position that was not sent.
    Idle(Lsn),
}

/// Some of the stream, in order.
pub(super) struct Parcel {
    pub events: VecDeque<Event>,
    // Gives the room back when all of it is in batches, which have a bound of their own.
    _room: OwnedSemaphorePermit,
}

/// Positions that blue is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    /// Durable on green: blue may forget what is before it.
    pub durable: Lsn,
    /// Visible on green.
    pub applied: Lsn,
}

/// Reads one stream until it breaks or we are told to quit.
pub(super) struct Reader {
    pub stream: ReplicationStream,
    /// Transactions whose commit record is before this position are on green already.
    pub from: Lsn,
    pub parcels: mpsc::Sender<Parcel>,
    pub room: Arc<Semaphore>,
    pub feedback: watch::Receiver<Feedback>,
    pub quit: watch::Receiver<bool>,
}

struct Load {
    events: VecDeque<Event>,
    bytes: usize,
    decoder: Decoder,
    inside: bool,
    skipping: bool,
    received: Lsn,
    idle: Lsn,
}

impl Load {
    /// Takes a message in, unless it is of a transaction that is on green already.
    fn pass(&mut self, mut message: Streamed, bytes: usize, from: Lsn) {
        match &message {
            Streamed::Whole(Message::Begin(begin)) => {
                self.inside = true;
                self.skipping = begin.commit_lsn < from;
            }
            Streamed::Start { .. } => self.inside = true,
            Streamed::Whole(Message::Commit(_)) | Streamed::Stop => self.inside = false,
            // Blue does not stream what committed before the position it was asked for. If it did, it would be there twice.
            Streamed::Commit { xid, commit } if commit.commit_lsn < from => {
                message = Streamed::Abort { xid: *xid, subxid: *xid };
            }
            _ => {}
        }
        // What a skipped transaction tells of shapes is told only once, and is needed later.
        if !self.skipping || matches!(message, Streamed::Whole(Message::Relation(_))) {
            self.bytes += bytes;
            self.events.push_back(Event::Message(message, bytes as u64));
        }
        if !self.inside {
            self.skipping = false;
        }
    }
}

impl Reader {
    /// # Errors
    /// [`Kind::Connect`] or [`Kind::Server`] when the stream ends by itself.
    pub async fn run(mut self) -> Result<()> {
        let mut load = Load {
            events: VecDeque::new(),
            bytes: 0,
            decoder: Decoder::default(),
            inside: false,
            skipping: false,
            received: self.from,
            idle: self.from,
        };
        let mut told = Told { at: Instant::now(), feedback: Feedback::default() };
        let mut quit = self.quit.clone();
        let mut tick = tokio::time::interval(FEEDBACK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let here = match self.stream.next_here()? {
                Some(frame) => Some(frame),
                None => self.stream.next().now_or_never().transpose()?,
            };
            let frame = match here {
                Some(frame) => frame,
                None => {
                    // What ends inside of a transaction cannot be written yet: the server sends each row by itself, and
                    // handing them over so was a wake-up of the applying side for each.
                    let is_of_use = !load.inside && !load.events.is_empty();
                    if is_of_use && !self.hand_over(&mut load, &mut told).await? {
                        return self.finish(load.received).await;
                    }
                    let frame = tokio::select! {
                        frame = self.stream.next() => Some(frame?),
                        _ = tick.tick() => None,
                        () = told_to(&mut quit) => return self.finish(load.received).await,
                    };
                    let Some(frame) = frame else {
                        self.tell_if_due(load.received, &mut told).await?;
                        continue;
                    };
                    frame
                }
            };
            self.take(frame, &mut load, &mut told).await?;
            let full = load.events.len() >= PARCEL_EVENTS || load.bytes >= PARCEL_BYTES;
            if full && !self.hand_over(&mut load, &mut told).await? {
                return self.finish(load.received).await;
            }
        }
    }

    async fn take(&mut self, frame: Frame, load: &mut Load, told: &mut Told) -> Result<()> {
        match frame {
            Frame::Data { start, wal_end, body } => {
                load.received = load.received.max(wal_end).max(start);
                let bytes = body.len();
                let message = load
                    .decoder
                    .decode(body)
                    .doing(Kind::Server, || format!("blue sent a message we cannot read, at {start}"))?;
                load.pass(message, bytes, self.from);
            }
            Frame::Keepalive { wal_end, reply_requested } => {
                load.received = load.received.max(wal_end);
                if !load.inside && wal_end > load.idle {
                    load.idle = wal_end;
                    load.events.push_back(Event::Idle(wal_end));
                }
                if reply_requested {
                    self.tell(load.received, told).await?;
                }
            }
        }
        Ok(())
    }

    /// Hands over what was read, waiting for room; false when we were told to quit meanwhile.
    async fn hand_over(&mut self, load: &mut Load, told: &mut Told) -> Result<bool> {
        let events = std::mem::take(&mut load.events);
        let bytes =
            u32::try_from(std::mem::take(&mut load.bytes)).unwrap_or(u32::MAX).clamp(1, WAITING_BYTES);
        let (room, parcels) = (Arc::clone(&self.room), self.parcels.clone());
        let handing = async move {
            let Ok(room) = room.acquire_many_owned(bytes).await else { return false };
            parcels.send(Parcel { events, _room: room }).await.is_ok()
        };
        tokio::pin!(handing);
        let mut quit = self.quit.clone();
        loop {
            tokio::select! {
                handed = &mut handing => return Ok(handed),
                () = tokio::time::sleep(FEEDBACK_EVERY) => {}
                () = told_to(&mut quit) => return Ok(false),
            }
            self.tell_if_due(load.received, told).await?;
        }
    }

    async fn tell_if_due(&mut self, received: Lsn, told: &mut Told) -> Result<()> {
        let news = *self.feedback.borrow() != told.feedback;
        if news || told.at.elapsed() >= SIGN_OF_LIFE_EVERY {
            self.tell(received, told).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, received: Lsn, told: &mut Told) -> Result<()> {
        let feedback = *self.feedback.borrow();
        *told = Told { at: Instant::now(), feedback };
        self.stream.status(received, feedback.durable, feedback.applied).await
    }

    /// The last word to blue, and an orderly end.
    async fn finish(mut self, received: Lsn) -> Result<()> {
        let feedback = *self.feedback.borrow();
        self.stream.status(received, feedback.durable, feedback.applied).await?;
        self.stream.finish().await
    }
}

/// Waits until we are told to quit, or nobody is left to tell.
async fn told_to(quit: &mut watch::Receiver<bool>) {
    let _ = quit.wait_for(|quit| *quit).await;
}

/// What blue heard last, and when.
struct Told {
    at: Instant,
    feedback: Feedback,
}
