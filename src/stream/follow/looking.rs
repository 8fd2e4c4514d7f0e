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
pub(super) struct Pulse {
    /// Commit time of the newest transaction applied, by blue's clock, in microseconds since 1970. Where none is known
    /// yet, when this session began: what waits is at least as old.
    pub newest_micros: AtomicI64,
    /// All that came is committed, and we wait for more.
    pub waiting: AtomicBool,
    /// Blue's clock when it was looked at last, in microseconds since 1970, and ours at that moment.
    clock: Mutex<Option<(i64, Instant)>>,
}

/// While we wait for more and less than this is between us and blue's end, it is WAL without changes for us.
const NEAR_BYTES: u64 = 16 << 20;

impl Pulse {
    /// A session that begins when blue's clock shows this; `newest_micros` is of the transaction applied last, if known.
    pub fn begin(newest_micros: Option<i64>, blue_clock_micros: i64) -> Pulse {
        Pulse {
            newest_micros: AtomicI64::new(newest_micros.unwrap_or(blue_clock_micros)),
            waiting: AtomicBool::new(false),
            clock: Mutex::new(Some((blue_clock_micros, Instant::now()))),
        }
    }

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
        let near = self.waiting.load(Ordering::Relaxed) && lag_bytes < NEAR_BYTES;
        if lag_bytes == 0 || near {
            return 0.0;
        }
        let newest_micros = self.newest_micros.load(Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_session_that_has_applied_nothing_yet_tells_a_lag() {
        let resumed = Pulse::begin(Some(100 * SECOND), 400 * SECOND);
        assert_eq!(resumed.lag_seconds(1, 401 * SECOND), 301.0);
        let first = Pulse::begin(None, 400 * SECOND);
        assert_eq!(first.lag_seconds(1, 401 * SECOND), 1.0);
    }

    #[test]
    fn caught_up_is_no_lag() {
        let pulse = Pulse::begin(Some(100 * SECOND), 400 * SECOND);
        assert_eq!(pulse.lag_seconds(0, 401 * SECOND), 0.0);
        pulse.waiting.store(true, Ordering::Relaxed);
        assert_eq!(pulse.lag_seconds(NEAR_BYTES - 1, 401 * SECOND), 0.0, "WAL without changes for us");
        assert_eq!(pulse.lag_seconds(NEAR_BYTES, 401 * SECOND), 301.0);
    }
}
