//! How fast a piece of work advances, and how long it will take. Pure; the clock is given.

use super::numbers;
use std::time::{Duration, Instant};

/// Samples closer than this are put together.
const SAMPLE: Duration = Duration::from_millis(500);
/// How much a new sample counts: the rate follows a change within some seconds.
const WEIGHT: f64 = 0.3;

/// Follows one subject.
#[derive(Debug, Clone)]
pub struct Meter {
    begun: Instant,
    sampled: Instant,
    sampled_bytes: u64,
    /// `None` before the first sample.
    bytes_per_second: Option<f64>,
}

/// One reading of a subject.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Rows done.
    pub rows: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes expected in all; 0 when unknown.
    pub total_bytes: u64,
}

impl Meter {
    /// Begins at what was done before.
    pub fn new(bytes: u64, now: Instant) -> Meter {
        Meter { begun: now, sampled: now, sampled_bytes: bytes, bytes_per_second: None }
    }

    /// Takes a reading.
    pub fn see(&mut self, bytes: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.sampled);
        if elapsed < SAMPLE {
            return;
        }
        let newest = bytes.saturating_sub(self.sampled_bytes) as f64 / elapsed.as_secs_f64();
        self.bytes_per_second = Some(match self.bytes_per_second {
            Some(smooth) => smooth * (1.0 - WEIGHT) + newest * WEIGHT,
            None => newest,
        });
        self.sampled = now;
        self.sampled_bytes = bytes;
    }

    /// How long the rest takes at this rate; `None` when that cannot be said.
    pub fn remaining(&self, reading: Reading) -> Option<Duration> {
        let rate = self.bytes_per_second.filter(|rate| *rate >= 1.0)?;
        let rest = reading.total_bytes.checked_sub(reading.bytes).filter(|rest| *rest > 0)?;
        Duration::try_from_secs_f64(rest as f64 / rate).ok()
    }

    /// `12,345 rows, 1.2 GB of 3.0 GB (40%), 45.0 MB/s, 1m 20s left`, as far as it is known.
    pub fn describe(&self, reading: Reading) -> String {
        let mut text = amount(reading);
        // An expectation that was passed is none.
        if reading.total_bytes > 0 && reading.bytes <= reading.total_bytes {
            let percent = u128::from(reading.bytes) * 100 / u128::from(reading.total_bytes);
            text.push_str(&format!(" of {} ({percent}%)", numbers::bytes(reading.total_bytes)));
        }
        if let Some(rate) = self.bytes_per_second {
            text.push_str(&format!(", {}", numbers::rate(rate)));
        }
        if let Some(remaining) = self.remaining(reading) {
            text.push_str(&format!(", {} left", numbers::duration(remaining)));
        }
        text
    }

    /// `12,345 rows, 3.0 GB in 1m 02s`.
    pub fn conclude(&self, reading: Reading, now: Instant) -> String {
        let took = numbers::duration(now.saturating_duration_since(self.begun));
        match reading {
            Reading { rows: 0, bytes: 0, .. } => format!("in {took}"),
            _ => format!("{} in {took}", amount(reading)),
        }
    }
}

/// What is done, in what it is counted in: an index build knows no rows, a backfill no bytes.
fn amount(reading: Reading) -> String {
    let rows = || format!("{} rows", numbers::count(reading.rows));
    match reading {
        Reading { rows: 0, bytes, .. } => numbers::bytes(bytes),
        Reading { bytes: 0, total_bytes: 0, .. } => rows(),
        Reading { bytes, .. } => format!("{}, {}", rows(), numbers::bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn reading(bytes: u64, total_bytes: u64) -> Reading {
        Reading { rows: 1234, bytes, total_bytes }
    }

    #[test]
    fn rate_and_rest_are_of_this_run_only() {
        let begun = Instant::now();
        let mut meter = Meter::new(100 * MB, begun);
        assert_eq!(meter.describe(reading(100 * MB, 200 * MB)), "1,234 rows, 100 MB of 200 MB (50%)");
        meter.see(110 * MB, begun + Duration::from_secs(1));
        assert_eq!(
            meter.describe(reading(110 * MB, 200 * MB)),
            "1,234 rows, 110 MB of 200 MB (55%), 10.0 MB/s, 9.0 s left"
        );
        assert_eq!(
            meter.conclude(reading(200 * MB, 0), begun + Duration::from_secs(62)),
            "1,234 rows, 200 MB in 1m 02s"
        );
    }

    #[test]
    fn nothing_is_said_that_is_not_known() {
        let begun = Instant::now();
        let build = Reading { rows: 0, bytes: 0, total_bytes: 0 };
        assert_eq!(Meter::new(0, begun).conclude(build, begun + Duration::from_secs(2)), "in 2.0 s");
        assert_eq!(Meter::new(0, begun).describe(Reading { bytes: MB, ..build }), "1.0 MB");
        let backfill = Reading { rows: 1234, ..build };
        assert_eq!(
            Meter::new(0, begun).conclude(backfill, begun + Duration::from_secs(2)),
            "1,234 rows in 2.0 s"
        );
        let mut meter = Meter::new(0, begun);
        meter.see(MB, begun + Duration::from_millis(10));
        assert_eq!(meter.describe(reading(MB, 0)), "1,234 rows, 1.0 MB");
        meter.see(MB, begun + Duration::from_secs(1));
        meter.see(MB, begun + Duration::from_secs(60));
        assert!(meter.describe(reading(MB, 2 * MB)).ends_with("left"));
        assert_eq!(meter.remaining(reading(3 * MB, 2 * MB)), None);
        assert_eq!(meter.describe(reading(3 * MB, 2 * MB)).split(" of ").count(), 1);
    }

    #[test]
    fn a_stall_makes_the_rate_sink() {
        let begun = Instant::now();
        let mut meter = Meter::new(0, begun);
        meter.see(100 * MB, begun + Duration::from_secs(1));
        for second in 2..30 {
            meter.see(100 * MB, begun + Duration::from_secs(second));
        }
        assert!(
            meter.remaining(reading(100 * MB, 200 * MB)).is_none_or(|rest| rest > Duration::from_secs(60))
        );
    }
}
