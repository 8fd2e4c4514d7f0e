//! How much is written to tables, by the server's own counters.

use crate::pg::name::TableName;
use serde::{Deserialize, Serialize};

/// Rows written to a table. Rows of transactions that were taken back count too, and TRUNCATE does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writes {
    /// By INSERT.
    pub inserted: u64,
    /// By UPDATE.
    pub updated: u64,
    /// By DELETE.
    pub deleted: u64,
}

impl Writes {
    /// All together.
    pub fn total(self) -> u64 {
        self.inserted.saturating_add(self.updated).saturating_add(self.deleted)
    }

    /// What came after an earlier look; `None` when the counters began anew in between.
    pub fn since(self, earlier: Writes) -> Option<Writes> {
        Some(Writes {
            inserted: self.inserted.checked_sub(earlier.inserted)?,
            updated: self.updated.checked_sub(earlier.updated)?,
            deleted: self.deleted.checked_sub(earlier.deleted)?,
        })
    }
}

/// The writes of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableWrites {
    /// Its name.
    pub table: TableName,
    /// What was counted.
    pub writes: Writes,
}

/// Two looks at the counters, a moment apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritesSeen {
    /// For how long the server has counted, in milliseconds; `None` when it does not tell.
    pub counted_ms: Option<u64>,
    /// All that it counted, up to the second look.
    pub counted: Vec<TableWrites>,
    /// From the first look to the second, in milliseconds.
    pub measured_ms: u64,
    /// What came between the two.
    pub measured: Vec<TableWrites>,
}

impl WritesSeen {
    /// What was measured of all tables, a minute.
    pub fn measured_per_minute(&self) -> f64 {
        let total = self.measured.iter().map(|table| table.writes.total()).sum();
        per_minute(total, self.measured_ms)
    }
}

/// A count over a time, for a minute.
pub fn per_minute(count: u64, over_ms: u64) -> f64 {
    if over_ms == 0 { 0.0 } else { count as f64 * 60_000.0 / over_ms as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_began_anew_tell_nothing() {
        let of = |inserted, updated, deleted| Writes { inserted, updated, deleted };
        assert_eq!(of(5, 3, 2).since(of(1, 3, 0)), Some(of(4, 0, 2)));
        assert_eq!(of(5, 3, 2).since(of(1, 4, 0)), None);
        assert_eq!(per_minute(5, 5_000).round() as u64, 60);
        assert_eq!(per_minute(5, 0), 0.0);
    }
}
