//! What a snapshot sees, by the ids of transactions.

use std::str::FromStr;

/// A snapshot as `pg_current_snapshot()` tells it: `xmin:xmax:xip,xip…`, ids with their epoch, of top-level transactions.
///
/// Source: <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidSnapshot {
    /// All before it had ended.
    xmin: u64,
    /// It and all after it had not begun.
    xmax: u64,
    /// Between the two: those that ran, in order.
    running: Vec<u64>,
}

impl XidSnapshot {
    /// Whether it sees what a committed transaction did. `xid` is a top-level id without its epoch, as the stream tells it, of
    /// a transaction at most two thousand million away from the snapshot.
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.with_epoch(xid);
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// The id nearest to the snapshot that has these lower half bits.
    fn with_epoch(&self, xid: u32) -> u64 {
        let lower_half = self.xmax as u32;
        let ahead = xid.wrapping_sub(lower_half) as i32;
        self.xmax.saturating_add_signed(i64::from(ahead))
    }
}

impl FromStr for XidSnapshot {
    type Err = String;

    fn from_str(text: &str) -> Result<XidSnapshot, String> {
        let wrong = || format!("`{text}` is not a snapshot");
        let number = |part: &str| part.parse::<u64>().map_err(|_| wrong());
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let mut running =
            running.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        running.sort_unstable();
        Ok(XidSnapshot { xmin: number(xmin)?, xmax: number(xmax)?, running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_ended_is_seen_and_what_ran_or_came_later_is_not() {
        let snapshot: XidSnapshot = "10:20:10,15".parse().unwrap();
        let seen: Vec<u32> = (8..23).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        let idle: XidSnapshot = "20:20:".parse().unwrap();
        assert!(idle.sees(19) && !idle.sees(20));
    }

    #[test]
    fn ids_are_told_apart_around_the_end_of_an_epoch() {
        let edge = 5u64 << 32;
        let snapshot: XidSnapshot = format!("{}:{}:{}", edge - 3, edge + 3, edge - 3).parse().unwrap();
        assert!(snapshot.sees(u32::MAX), "the last id of the epoch before");
        assert!(snapshot.sees(2), "an id of the new epoch");
        assert!(!snapshot.sees(u32::MAX - 2), "it ran");
        assert!(!snapshot.sees(3), "it came later");
        assert!(snapshot.sees(u32::MAX - 1_000_000));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "1:2", "1:2:3:4", "a:2:", "1:2:x"] {
            assert!(text.parse::<XidSnapshot>().is_err(), "{text}");
        }
    }
}
