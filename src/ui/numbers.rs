//! Numbers as people read them: bytes in powers of 1024 (as in the plan), counts, lengths of time, rates. Pure.

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// `512 B`, `1.2 GB`, `340 MB`; powers of 1024.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `45.0 MB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(bytes_per_second.max(0.0) as u64))
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `850 ms`, `1.2 s`, `42 s`, `1m 20s`, `2h 05m`, `3d 4h`.
pub fn duration(length: Duration) -> String {
    let ms = length.as_millis();
    let seconds = length.as_secs();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..9_950 => format!("{:.1} s", length.as_secs_f64()),
        9_950..60_000 => format!("{} s", seconds.max(10)),
        60_000..3_600_000 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600_000..86_400_000 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A length of time in seconds, as [`duration`]; nonsense (negative, not a number) is 0.
pub fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `1 table`, `2 tables`.
pub fn things(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_two_or_three_digits() {
        let expected = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1536, "1.5 kB"),
            (100 << 10, "100 kB"),
            (1023 << 10, "1.0 MB"),
            (5 << 30, "5.0 GB"),
            (u64::MAX, "16384 PB"),
        ];
        for (count, text) in expected {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(rate(-1.0), "0 B/s");
        assert_eq!(rate(45.0 * 1024.0 * 1024.0), "45.0 MB/s");
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let expected = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_200, "1.2 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_999, "59 s"),
            (80_000, "1m 20s"),
            (3_600_000, "1h 00m"),
            (7_500_000, "2h 05m"),
            (100 * 3_600_000, "4d 4h"),
        ];
        for (ms, text) in expected {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(seconds(f64::NAN), "0 ms");
    }
}
