//! One set of connections, from the progress row until something breaks or we are told to stop.

use super::{Shared, Wish};
use crate::error::{Error, Kind, Result};
use crate::event::Event as Told;
use crate::pg::lsn::Lsn;
use crate::pg::replication::{Identity, ReplicationConn};
use crate::stream::apply::{Applied, Applier, Memory};
use crate::stream::progress::Progress;
use crate::stream::reader::{Event, Feedback, Parcel, Reader, WAITING_BYTES, WAITING_PARCELS};
use crate::stream::watch::{SlotState, SlotWatch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// How often blue's slot and end are looked at, and the lag is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a position that moved without any change for us is written down.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// How often we ask whether green has flushed what it committed.
const FLUSH_POLL_EVERY: Duration = Duration::from_millis(50);

/// How long a stop waits for green to flush; blue hears the rest from the next follower.
const STOP_FLUSH_WAIT: Duration = Duration::from_secs(2);

/// Runs one session. `Ok` when it stopped by request.
pub(super) async fn run(
    shared: &Shared,
    wishes: &mut watch::Receiver<Wish>,
    memory: &mut Memory,
    blue: &mut Option<Identity>,
) -> Result<()> {
    let spec = &shared.spec;
    let watch = SlotWatch::connect(&spec.blue, &spec.slot).await?;
    let state = watch.look().await?;
    let mut applier = Applier::connect(&spec.green, &spec.slot, spec.epoch, memory).await?;
    let progress = check_progress(shared, applier.read_progress().await?, &state)?;
    let mut conn = ReplicationConn::connect(&spec.blue, "follow").await?;
    check_identity(blue, conn.identify().await?)?;
    let stream = conn
        .start(
            &spec.slot,
            progress.position,
            std::slice::from_ref(&spec.publication),
            watch.server_version_num,
        )
        .await?;

    // What a row on green says was read by a new session, but its commit may not be flushed yet: only the slot's own
    // position counts as durable until a flush is seen.
    let start = Feedback { durable: state.confirmed, applied: progress.position };
    let (feedback, feedback_seen) = watch::channel(start);
    let (quit, quit_seen) = watch::channel(false);
    let (sender, parcels) = mpsc::channel(WAITING_PARCELS);
    let reader = Reader {
        stream,
        from: progress.position,
        parcels: sender,
        room: Arc::new(Semaphore::new(WAITING_BYTES as usize)),
        feedback: feedback_seen,
        quit: quit_seen,
    };
    let reading = Reading { task: tokio::spawn(reader.run()), quit };
    let resumed = Applied {
        position: progress.position,
        markers: progress.marker.map(|marker| (marker, progress.position)).into_iter().collect(),
        ..Applied::default()
    };
    // A crash of green may have taken back what was not durable: what it says now counts.
    shared.status.send_modify(|status| status.applied = progress.position);
    shared.applied(&resumed, state.confirmed);
    let pulse = Pulse::default();
    let session = Session {
        shared,
        wishes: wishes.clone(),
        applier,
        parcels,
        feedback,
        unflushed: VecDeque::new(),
        durable: state.confirmed,
        idle: None,
        idle_written: Instant::now(),
        pulse: &pulse,
    };
    let ending = tokio::select! {
        outcome = session.apply(reading, progress.position) => return outcome,
        ending = look_again_and_again(&watch, shared, &pulse) => ending,
    };
    // By now the session is gone and the slot free.
    match ending {
        Ending::Broken(error) => Err(error),
        Ending::HoldsTooMuch { retained_bytes } => Err(watch.give_up(retained_bytes).await),
    }
}

fn check_progress(shared: &Shared, progress: Option<Progress>, state: &SlotState) -> Result<Progress> {
    let slot = &shared.spec.slot;
    match progress {
        None => Err(Error::new(Kind::Gate, format!("green has no progress for slot `{slot}`"))
            .hint("The first copy is not complete, or green was replaced. Run `migrate replicate`, or start from a fresh copy.")),
        Some(progress) if progress.position < state.confirmed => Err(Error::new(
            Kind::Gate,
            format!(
                "green is at {}, but blue was told {} and forgot what is between: green was restored to an earlier state",
                progress.position, state.confirmed
            ),
        )
        .hint("The changes in between are lost to the stream. Start again from a fresh copy.")),
        Some(progress) => Ok(progress),
    }
}

fn check_identity(known: &mut Option<Identity>, found: Identity) -> Result<()> {
    let same = |known: &Identity| {
        known.system_identifier == found.system_identifier && known.timeline == found.timeline
    };
    match known {
        Some(known) if !same(known) => Err(Error::new(Kind::Gate, "blue is not the server it was: it was replaced, restored or promoted")
            .hint("A promoted standby may lack what green has, or have what green lacks. Start again from a fresh copy.")),
        _ => {
            *known = Some(found);
            Ok(())
        }
    }
}

/// Why the watching side ends a session.
enum Ending {
    Broken(Error),
    HoldsTooMuch { retained_bytes: u64 },
}

/// What the applying side lets the watching side see.
#[derive(Default)]
struct Pulse {
    /// Commit time of the newest transaction applied, by blue's clock, in microseconds since 1970; 0 for none.
    newest_micros: AtomicI64,
    /// All that came is committed, and we wait for more.
    waiting: AtomicBool,
}

/// While we wait for more and less than this is between us and blue's end, it is WAL without changes for us.
const NEAR_BYTES: u64 = 16 << 20;

impl Pulse {
    fn lag_seconds(&self, lag_bytes: u64, blue_clock_micros: i64) -> f64 {
        let newest_micros = self.newest_micros.load(Ordering::Relaxed);
        if newest_micros == 0
            || lag_bytes == 0
            || (self.waiting.load(Ordering::Relaxed) && lag_bytes < NEAR_BYTES)
        {
            return 0.0;
        }
        let age_micros = blue_clock_micros.saturating_sub(newest_micros).max(0);
        Duration::from_micros(age_micros.unsigned_abs()).as_secs_f64()
    }
}

/// Watches the slot for as long as the session lives, and tells the lag.
async fn look_again_and_again(watch: &SlotWatch, shared: &Shared, pulse: &Pulse) -> Ending {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let state = match watch.look().await {
            Ok(state) => state,
            Err(error) => return Ending::Broken(error),
        };
        if state.retained_bytes > shared.spec.retained_wal_max_bytes {
            return Ending::HoldsTooMuch { retained_bytes: state.retained_bytes };
        }
        shared.status.send_modify(|status| {
            status.blue_end = status.blue_end.max(state.wal_end);
            status.lag_bytes = status.blue_end.bytes_since(status.applied);
            status.lag_seconds = pulse.lag_seconds(status.lag_bytes, state.clock_micros);
        });
        let status = shared.status.borrow().clone();
        shared.ears.tell(Told::Lag {
            bytes: status.lag_bytes,
            seconds: status.lag_seconds,
            transactions: status.transactions,
        });
    }
}

/// The reading task, ended with the session.
struct Reading {
    task: JoinHandle<Result<()>>,
    quit: watch::Sender<bool>,
}

impl Reading {
    /// Why it ended.
    async fn ended(mut self) -> Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::new(Kind::Connect, "reading from blue ended by itself"),
            Err(join) => Error::new(Kind::Bug, "reading from blue panicked").source(join),
        }
    }

    /// Ends it in an orderly way.
    async fn quit(mut self) {
        self.quit.send_replace(true);
        match tokio::time::timeout(Duration::from_secs(6), &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            other => tracing::debug!(?other, "the stream did not end in an orderly way"),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Session<'s> {
    shared: &'s Shared,
    wishes: watch::Receiver<Wish>,
    applier: Applier<'s>,
    parcels: mpsc::Receiver<Parcel>,
    feedback: watch::Sender<Feedback>,
    /// Commits on green that are not flushed yet: green's position after each, and what of blue it brought.
    unflushed: VecDeque<(Lsn, Lsn)>,
    durable: Lsn,
    /// A position we may move to without any change, not yet written down.
    idle: Option<Lsn>,
    idle_written: Instant,
    pulse: &'s Pulse,
}

impl Session<'_> {
    /// Applies until the reader ends or a stop is wished.
    async fn apply(mut self, reading: Reading, from: Lsn) -> Result<()> {
        // The row we go on from may be committed and not flushed.
        let (inserted, _) = self.applier.read_wal().await?;
        self.unflushed.push_back((inserted, from));
        self.wishes.mark_changed();
        loop {
            if self.wishes.has_changed().unwrap_or(true) && self.obey().await? {
                return self.stop(reading).await;
            }
            match self.parcels.try_recv() {
                Ok(parcel) => self.take(parcel).await?,
                Err(TryRecvError::Disconnected) => return Err(reading.ended().await),
                // Nothing more is waiting: what we have is committed at once.
                Err(TryRecvError::Empty) if self.applier.is_open() && self.applier.at_boundary() => {
                    self.commit().await?;
                }
                Err(TryRecvError::Empty) => {
                    self.pulse.waiting.store(!self.applier.is_open(), Ordering::Relaxed);
                    self.wait().await?;
                    self.pulse.waiting.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Does what the caller wishes; true when that is to stop.
    async fn obey(&mut self) -> Result<bool> {
        let wish = *self.wishes.borrow_and_update();
        self.applier.set_synchronous(wish.synchronous).await?;
        self.shared.status.send_if_modified(|status| {
            std::mem::replace(&mut status.synchronous, wish.synchronous) != wish.synchronous
        });
        Ok(wish.stop)
    }

    async fn take(&mut self, parcel: Parcel) -> Result<()> {
        for event in parcel.events {
            match event {
                Event::Message(message, bytes) => {
                    self.applier.take(message, bytes).await?;
                    if self.applier.is_full() && self.applier.at_boundary() {
                        self.commit().await?;
                    }
                }
                Event::Idle(position) => self.idle = Some(position),
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        if let Some(position) = self.idle.take() {
            self.applier.pass(position).await?;
        }
        let Some(applied) = self.applier.commit().await? else { return Ok(()) };
        self.idle_written = Instant::now();
        if let Some(time) = applied.commit_time {
            self.pulse.newest_micros.store(time.unix_micros(), Ordering::Relaxed);
        }
        if self.applier.is_synchronous() {
            // This commit was flushed, and with it everything before it.
            self.unflushed.clear();
            self.durable = applied.position;
        } else {
            let (inserted, flushed) = self.applier.read_wal().await?;
            self.unflushed.push_back((inserted, applied.position));
            self.settle(flushed);
        }
        self.publish(&applied);
        Ok(())
    }

    /// Green's log is flushed up to here: whatever committed before is durable.
    fn settle(&mut self, flushed: Lsn) {
        while let Some((committed, position)) = self.unflushed.front().copied() {
            if committed > flushed {
                return;
            }
            self.durable = self.durable.max(position);
            self.unflushed.pop_front();
        }
    }

    fn publish(&self, applied: &Applied) {
        self.shared.applied(applied, self.durable);
        let position = self.shared.status.borrow().applied;
        self.feedback.send_replace(Feedback { durable: self.durable, applied: position });
    }

    async fn poll_flush(&mut self) -> Result<()> {
        let (_, flushed) = self.applier.read_wal().await?;
        let before = self.durable;
        self.settle(flushed);
        if self.durable != before {
            self.publish(&Applied::default());
        }
        Ok(())
    }

    /// Nothing to apply: waits for more, a wish, the flush of what was committed, or the time to write down where we are.
    async fn wait(&mut self) -> Result<()> {
        let idle_due =
            tokio::time::sleep((self.idle_written + IDLE_EVERY).saturating_duration_since(Instant::now()));
        let may_pass = self.idle.is_some() && self.applier.at_boundary();
        tokio::select! {
            parcel = self.parcels.recv() => match parcel {
                Some(parcel) => self.take(parcel).await,
                // The next look at the queue finds why.
                None => Ok(()),
            },
            _ = self.wishes.changed() => {
                // Looked at in the loop.
                self.wishes.mark_changed();
                Ok(())
            }
            () = tokio::time::sleep(FLUSH_POLL_EVERY), if !self.unflushed.is_empty() => self.poll_flush().await,
            () = idle_due, if may_pass => self.commit().await,
        }
    }

    async fn stop(mut self, reading: Reading) -> Result<()> {
        if self.applier.at_boundary() {
            self.commit().await?;
        }
        // Inside of a blue transaction there is nothing to keep: it comes again as a whole.
        let waited = Instant::now();
        while !self.unflushed.is_empty() && waited.elapsed() < STOP_FLUSH_WAIT {
            self.poll_flush().await?;
            tokio::time::sleep(FLUSH_POLL_EVERY).await;
        }
        reading.quit().await;
        Ok(())
    }
}
