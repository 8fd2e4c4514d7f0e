//! One set of connections, from the progress row until something breaks or we are told to stop.

use super::collector::{Collector, Work};
use super::looking::{Ending, Pulse, look_again_and_again};
use super::{Memory, Shared, Streaming, Wish};
use crate::error::{Error, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::replication::{Identity, ReplicationConn, SENDS_EARLY_FROM, Sending};
use crate::stream::apply::{Committed, Ledger, Sessions, WalPositions, Writer};
use crate::stream::batch::Applied;
use crate::stream::progress::Progress;
use crate::stream::reader::{Feedback, Parcel, Reader, WAITING_BYTES, WAITING_PARCELS};
use crate::stream::watch::{SlotState, SlotWatch};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// How long a batch waits for more after something came, while we are far behind.
const PATIENCE_MAX: Duration = Duration::from_millis(20);

/// The runtime's timer is no finer: a wait of a tenth of it would take all of it, and close behind blue that was most of
/// the time from a commit on blue to its sight on green (2.7 ms beside 0.3 ms of a subscription).
const PATIENCE_MIN: Duration = Duration::from_millis(1);

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
    ledger: &Ledger,
    blue: &mut Option<Identity>,
) -> Result<()> {
    let spec = &shared.spec;
    let watch = SlotWatch::connect(&spec.blue, &spec.slot, &spec.publication).await?;
    let state = watch.look().await?;
    let mut green = Sessions::connect(&spec.green, &spec.slot, spec.epoch, ledger.clone()).await?;
    green.main.keep_joined(&spec.joined).await?;
    let progress = check_progress(shared, green.main.read_progress().await?, &state)?;
    memory.seen = green.main.read_seen(spec.attempt).await?;
    let mut conn = ReplicationConn::connect(&spec.blue, "follow").await?;
    check_identity(blue, conn.identify().await?)?;
    let sending = match memory.streaming {
        Streaming::Off => Sending::Committed,
        _ if watch.server_version_num < SENDS_EARLY_FROM => Sending::Committed,
        Streaming::Wanted | Streaming::InUse => Sending::Early,
    };
    let publications = std::slice::from_ref(&spec.publication);
    let stream = conn.start_sending(&spec.slot, progress.position, publications, sending).await?;

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
    let pulse = Pulse::begin(progress.newest_micros, state.clock_micros);
    let session = Session {
        shared,
        wishes: wishes.clone(),
        green: Green::Free(Box::new(green)),
        collector: Collector::new(memory, progress.position),
        parcels,
        feedback,
        unflushed: VecDeque::new(),
        // The row we go on from may be committed and not flushed.
        unread: Some(progress.position),
        durable: state.confirmed,
        idle_written: Instant::now(),
        came: Instant::now(),
        pulse: &pulse,
    };
    let ending = tokio::select! {
        outcome = session.apply(reading) => return outcome,
        ending = look_again_and_again(&watch, shared, &pulse) => ending,
    };
    // By now the session is gone and the slot free. What is wrong with blue's slot is not for the streaming.
    memory.calm();
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

/// Green's side: one batch at a time, while the next one is collected.
enum Green {
    Free(Box<Sessions>),
    Writing(BoxFuture<'static, (Box<Sessions>, Result<Option<Committed>>)>),
    /// After a failure.
    Gone,
}

struct Session<'s> {
    shared: &'s Shared,
    wishes: watch::Receiver<Wish>,
    green: Green,
    collector: Collector<'s>,
    parcels: mpsc::Receiver<Parcel>,
    feedback: watch::Sender<Feedback>,
    /// Commits on green that are not flushed yet: green's position after each, and what of blue it brought.
    unflushed: VecDeque<(Lsn, Lsn)>,
    /// What of blue came with commits since green's position was read.
    unread: Option<Lsn>,
    durable: Lsn,
    idle_written: Instant,
    /// When something came last.
    came: Instant,
    pulse: &'s Pulse,
}

impl Session<'_> {
    /// Applies until the reader ends or a stop is wished.
    async fn apply(mut self, reading: Reading) -> Result<()> {
        self.wishes.mark_changed();
        loop {
            self.collector.collect()?;
            if matches!(self.green, Green::Free(_)) {
                self.collector.rest();
                if self.wishes.has_changed().unwrap_or(true) && self.obey().await? {
                    return self.stop(reading).await;
                }
                if let Some((relation, tables)) = self.collector.take_unknown() {
                    let mut shapes = Vec::new();
                    for table in &tables {
                        shapes.push(self.writer()?.resolve(relation.clone(), table).await?);
                    }
                    self.collector.learn(shapes);
                    continue;
                }
                if self.is_due() {
                    self.write()?;
                }
            }
            if !self.wait().await? {
                while matches!(self.green, Green::Writing(_)) {
                    self.written().await?;
                }
                return Err(reading.ended().await);
            }
        }
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        match &mut self.green {
            Green::Free(sessions) => Ok(&mut sessions.main),
            Green::Writing(_) | Green::Gone => Err(Error::new(Kind::Bug, "green is written to meanwhile")),
        }
    }

    /// Does what the caller wishes; true when that is to stop.
    async fn obey(&mut self) -> Result<bool> {
        let wish = *self.wishes.borrow_and_update();
        self.writer()?.set_synchronous(wish.synchronous).await?;
        self.shared.status.send_if_modified(|status| {
            std::mem::replace(&mut status.synchronous, wish.synchronous) != wish.synchronous
        });
        Ok(wish.stop)
    }

    /// Whether what is collected should be written now.
    fn is_due(&self) -> bool {
        let batch = &self.collector.batch;
        batch.is_full() || self.collector.is_pressed() || (self.may_write() && self.patience().is_zero())
    }

    /// Nothing more is waiting, and what we have ends where a blue transaction does.
    fn may_write(&self) -> bool {
        let batch = &self.collector.batch;
        !batch.is_empty() && batch.at_boundary() && self.collector.wants_more() && self.parcels.is_empty()
    }

    /// How long the batch should still wait for more: not at all when we are close behind blue, for as long as more
    /// comes when we are far behind. Larger batches are cheaper by the row, and smaller ones are seen sooner.
    fn patience(&self) -> Duration {
        let newest = self.collector.batch.applied.commit_time;
        let behind = newest.map_or(Duration::ZERO, |newest| self.pulse.age_of(newest));
        let patience = (behind / 4).min(PATIENCE_MAX).saturating_sub(self.came.elapsed());
        if patience < PATIENCE_MIN { Duration::ZERO } else { patience }
    }

    /// Begins to write what is collected.
    fn write(&mut self) -> Result<()> {
        let Green::Free(mut sessions) = std::mem::replace(&mut self.green, Green::Gone) else {
            return Err(Error::new(Kind::Bug, "green is written to meanwhile"));
        };
        let work = self.collector.take_work()?;
        self.green = Green::Writing(
            async move {
                let outcome = match work {
                    Work::Batch(batch) => sessions.main.write(*batch).await,
                    Work::Part(part) => sessions.write_part(part).await,
                };
                (sessions, outcome)
            }
            .boxed(),
        );
        Ok(())
    }

    /// Waits until what is being written is in.
    async fn written(&mut self) -> Result<()> {
        let Green::Writing(writing) = &mut self.green else { return Ok(()) };
        let (sessions, outcome) = writing.await;
        self.wrote(sessions, outcome)
    }

    fn wrote(&mut self, sessions: Box<Sessions>, outcome: Result<Option<Committed>>) -> Result<()> {
        let synchronous = sessions.main.is_synchronous();
        self.green = Green::Free(sessions);
        let Some(Committed { applied, wal }) = outcome? else { return Ok(()) };
        self.idle_written = Instant::now();
        // A position from before the end of a transaction that ran meanwhile.
        self.collector.idle = self.collector.idle.filter(|idle| *idle > applied.position);
        if let Some(time) = applied.commit_time {
            self.pulse.newest_micros.store(time.unix_micros(), Ordering::Relaxed);
        }
        if synchronous {
            // This commit was flushed, and with it everything before it.
            self.unflushed.clear();
            self.unread = None;
            self.durable = applied.position;
        } else {
            self.unread = Some(applied.position);
            if let Some(wal) = wal {
                self.settle(wal);
            }
        }
        self.publish(&applied);
        Ok(())
    }

    /// Whatever committed before what green has flushed is durable.
    fn settle(&mut self, wal: WalPositions) {
        if let Some(position) = self.unread.take() {
            self.unflushed.push_back((wal.inserted, position));
        }
        while let Some((committed, position)) = self.unflushed.front().copied() {
            if committed > wal.flushed {
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

    /// Something is committed of which we do not know that it is durable.
    fn awaits_flush(&self) -> bool {
        self.unread.is_some() || !self.unflushed.is_empty()
    }

    async fn poll_flush(&mut self) -> Result<()> {
        let wal = self.writer()?.read_wal().await?;
        let before = self.durable;
        self.settle(wal);
        if self.durable != before {
            self.publish(&Applied::default());
        }
        Ok(())
    }

    /// Waits for green, for more from blue, a wish, the flush of what was committed, or the time to write down where we
    /// are. False when nothing more comes from blue.
    async fn wait(&mut self) -> Result<bool> {
        if matches!(self.green, Green::Writing(_)) {
            let more = self.collector.wants_more();
            let Green::Writing(writing) = &mut self.green else { return Ok(true) };
            let (sessions, outcome) = tokio::select! {
                biased;
                written = writing => written,
                parcel = self.parcels.recv(), if more => return Ok(self.give(parcel)),
            };
            self.wrote(sessions, outcome)?;
            return Ok(true);
        }
        let batch = &self.collector.batch;
        let lingers = self.may_write().then(|| self.patience());
        let idle_left = (self.idle_written + IDLE_EVERY).saturating_duration_since(Instant::now());
        let may_pass = self.collector.idle.is_some() && batch.is_empty();
        self.pulse.waiting.store(batch.is_empty(), Ordering::Relaxed);
        tokio::select! {
            biased;
            parcel = self.parcels.recv(), if self.collector.wants_more() => return Ok(self.give(parcel)),
            _ = self.wishes.changed() => self.wishes.mark_changed(),
            () = tokio::time::sleep(lingers.unwrap_or_default()), if lingers.is_some() => {}
            () = tokio::time::sleep(FLUSH_POLL_EVERY), if self.awaits_flush() => self.poll_flush().await?,
            () = tokio::time::sleep(idle_left), if may_pass => self.write()?,
        }
        Ok(true)
    }

    fn give(&mut self, parcel: Option<Parcel>) -> bool {
        self.pulse.waiting.store(false, Ordering::Relaxed);
        let Some(parcel) = parcel else { return false };
        self.came = Instant::now();
        self.collector.give(parcel);
        true
    }

    async fn stop(mut self, reading: Reading) -> Result<()> {
        if self.collector.batch.at_boundary()
            && !(self.collector.batch.is_empty() && self.collector.idle.is_none())
        {
            self.write()?;
            self.written().await?;
        }
        // Inside of a blue transaction there is nothing to keep: it comes again as a whole. So do those that still run.
        let waited = Instant::now();
        while self.awaits_flush() && waited.elapsed() < STOP_FLUSH_WAIT {
            self.poll_flush().await?;
            tokio::time::sleep(FLUSH_POLL_EVERY).await;
        }
        reading.quit().await;
        Ok(())
    }
}
