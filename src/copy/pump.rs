//! Moves COPY data from one server to the other without looking into it.

use super::ledger::{Ledger, Load};
use super::piece::{Stage, TableRun};
use super::throttle::{HeldTooLong, Throttle};
use crate::error::Error;
use crate::event::Ears;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_postgres::{CopyInSink, CopyOutStream};

/// Sent to green at once. The driver sends smaller pieces as they come, at twice the processor time a row.
const BATCH_BYTES: usize = 128 * 1024;
/// The longest either side may stand still; a server that takes longer for one batch is stuck.
const STILL_MAX: Duration = Duration::from_secs(15 * 60);
/// At most one event in this time.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// At most one row of the ledger in this time.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Why the stream broke.
pub(super) enum Broken {
    /// Blue ended it.
    Blue(tokio_postgres::Error),
    /// Green ended it.
    Green(tokio_postgres::Error),
    /// A side stood still: which.
    Still(&'static str),
    /// The ledger could not be written.
    Ledger(Error),
    /// Green took less than blue has, and calls it complete.
    Short,
    /// Blue was over a limit of the throttle for longer than a snapshot may be held.
    HeldTooLong,
}

/// How far one table is, over all its pieces.
#[derive(Debug, Default)]
pub(super) struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
    begun: OnceLock<Instant>,
}

impl Counts {
    /// Going on from an earlier try.
    pub(super) fn from(rows: u64, bytes: u64) -> Counts {
        Counts { rows: rows.into(), bytes: bytes.into(), begun: OnceLock::new() }
    }

    /// How long ago the first piece began.
    pub(super) fn took(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Rows and bytes so far.
    pub(super) fn so_far(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Tells listeners and the ledger how far one piece is.
pub(super) struct Meter<'a> {
    run: &'a TableRun,
    ledger: &'a Ledger,
    ears: &'a Ears,
    /// The backend on green that loads this piece.
    green_pid: i32,
    piece_rows: u64,
    piece_bytes: u64,
    /// Green's view of running COPYs has shown this one; where activity is not tracked it never does.
    was_seen: bool,
    told: Instant,
    written: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn new(run: &'a TableRun, ledger: &'a Ledger, ears: &'a Ears, green_pid: i32) -> Meter<'a> {
        let now = Instant::now();
        run.counts.begun.get_or_init(|| now);
        Meter {
            run,
            ledger,
            ears,
            green_pid,
            piece_rows: 0,
            piece_bytes: 0,
            was_seen: false,
            told: now,
            written: now,
        }
    }

    /// Rows and bytes of this piece so far.
    pub(super) fn of_piece(&self) -> (u64, u64) {
        (self.piece_rows, self.piece_bytes)
    }

    /// Takes back what this piece counted, when it is given up.
    pub(super) fn take_back(&self) {
        self.run.counts.rows.fetch_sub(self.piece_rows, Ordering::Relaxed);
        self.run.counts.bytes.fetch_sub(self.piece_bytes, Ordering::Relaxed);
    }

    /// Replaces what was counted from messages by what green counted.
    pub(super) fn settle(&mut self, rows: u64) {
        self.run.counts.rows.fetch_add(rows, Ordering::Relaxed);
        self.run.counts.rows.fetch_sub(self.piece_rows, Ordering::Relaxed);
        self.piece_rows = rows;
    }

    async fn advance(&mut self, rows: u64, bytes: u64) -> Result<Load, Error> {
        self.piece_rows += rows;
        self.piece_bytes += bytes;
        self.run.counts.rows.fetch_add(rows, Ordering::Relaxed);
        self.run.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.ears.tell(self.run.progress(Stage::Copying));
        }
        if self.written.elapsed() >= WRITE_EVERY {
            self.written = Instant::now();
            let (rows, bytes) = self.run.counts.so_far();
            let load = self.ledger.advance(&self.run.table().blue, rows, bytes, self.green_pid).await?;
            self.was_seen |= load == Load::Running;
            return Ok(if self.was_seen { load } else { Load::Running });
        }
        Ok(Load::Running)
    }
}

/// Pipes one COPY into another and finishes it; returns the rows green counted.
///
/// On any failure the sink is dropped, which fails the COPY on green.
pub(super) async fn pump(
    out: CopyOutStream,
    sink: CopyInSink<Bytes>,
    meter: &mut Meter<'_>,
    throttle: &Throttle,
) -> Result<u64, Broken> {
    let (mut out, mut sink) = (pin!(out), pin!(sink));
    let mut batch = BytesMut::with_capacity(2 * BATCH_BYTES);
    // Servers send a message a row, in both formats; it is only what we show until green tells the count.
    let mut batch_rows = 0;
    let mut cut_short = false;
    loop {
        // Most rows are there already; only a wait needs a timer.
        let next = match out.next().now_or_never() {
            Some(next) => next,
            None => timeout(STILL_MAX, out.next()).await.map_err(|_| Broken::Still("blue"))?,
        };
        let ended = next.is_none();
        if let Some(row) = next {
            batch.extend_from_slice(&row.map_err(Broken::Blue)?);
            batch_rows += 1;
        }
        if batch.len() < BATCH_BYTES && !ended {
            continue;
        }
        let bytes = batch.len() as u64;
        throttle.pass(bytes).await.map_err(|HeldTooLong| Broken::HeldTooLong)?;
        timeout(STILL_MAX, sink.send(batch.split().freeze()))
            .await
            .map_err(|_| Broken::Still("green"))?
            .map_err(Broken::Green)?;
        batch.reserve(2 * BATCH_BYTES);
        // When green has failed, the driver would take the rest of the table before it says so.
        let load = meter.advance(batch_rows, bytes).await.map_err(Broken::Ledger)?;
        batch_rows = 0;
        if ended {
            break;
        }
        if load == Load::Ended {
            cut_short = true;
            break;
        }
    }
    let rows = timeout(STILL_MAX, sink.as_mut().finish())
        .await
        .map_err(|_| Broken::Still("green"))?
        .map_err(Broken::Green)?;
    if cut_short {
        return Err(Broken::Short);
    }
    meter.settle(rows);
    Ok(rows)
}
