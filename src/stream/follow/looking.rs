//! Looking at blue's slot and clock while a session lives, and telling the lag.

use super::{Shared, lock};
use crate::error::Error;
use crate::event::Event;
use crate::stream::pgoutput::CommitTime;
use crate::stream::watch::SlotWatch;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How often blue's slot and end are looked at, and the lag is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the watching side ends a session.
pub(super) enum Ending {
    Broken(Error),
    HoldsTooMuch { retained_bytes: u64 },
}

/// What the applying side lets the watching side see.
#[derive(Default)]
pub(super) struct Pulse {
    /// Commit time of the newest transaction applied, by blue's clock, in microseconds since 1970; 0 for none.
    pub newest_micros: AtomicI64,
    /// All that came is committed, and we wait for more.
    pub waiting: AtomicBool,
    /// Blue's clock when it was looked at last, in microseconds since 1970, and ours at that moment.
    clock: Mutex<Option<(i64, Instant)>>,
}

/// While we wait for more and less than this is between us and blue's end, it is WAL without changes for us.
const NEAR_BYTES: u64 = 16 << 20;

impl Pulse {
    /// Takes note of blue's clock.
    pub fn set_clock(&self, blue_clock_micros: i64) {
        *lock(&self.clock) = Some((blue_clock_micros, Instant::now()));
    }

    /// How long ago, by blue's clock, a transaction was committed.
    pub fn age_of(&self, committed: CommitTime) -> Duration {
        let Some((blue_micros, seen)) = *lock(&self.clock) else { return Duration::ZERO };
        let since_then = blue_micros.saturating_sub(committed.unix_micros());
        let waited = i64::try_from(seen.elapsed().as_micros()).unwrap_or(i64::MAX);
        Duration::from_micros(since_then.saturating_add(waited).max(0).unsigned_abs())
    }

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
pub(super) async fn look_again_and_again(watch: &SlotWatch, shared: &Shared, pulse: &Pulse) -> Ending {
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
        pulse.set_clock(state.clock_micros);
        shared.status.send_modify(|status| {
            status.blue_end = status.blue_end.max(state.wal_end);
            status.lag_bytes = status.blue_end.bytes_since(status.applied);
            status.lag_seconds = pulse.lag_seconds(status.lag_bytes, state.clock_micros);
        });
        let status = shared.status.borrow().clone();
        shared.ears.tell(Event::Lag {
            bytes: status.lag_bytes,
            seconds: status.lag_seconds,
            transactions: status.transactions,
        });
    }
}
