//! Postgres' lock modes on relations, and who they stop.

use crate::pg::name::TableName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lock mode on a relation. Ordered as Postgres numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// What SELECT takes.
    AccessShare,
    /// What SELECT … FOR UPDATE takes.
    RowShare,
    /// What INSERT, UPDATE and DELETE take.
    RowExclusive,
    /// What VACUUM and the CONCURRENTLY forms take.
    ShareUpdateExclusive,
    /// What CREATE INDEX takes: writers wait.
    Share,
    /// What CREATE TRIGGER and ADD FOREIGN KEY take: writers wait.
    ShareRowExclusive,
    /// What REFRESH MATERIALIZED VIEW CONCURRENTLY takes: writers wait.
    Exclusive,
    /// What most of ALTER TABLE takes: everybody waits.
    AccessExclusive,
}

impl LockMode {
    /// Every mode, the weakest first.
    pub const ALL: [LockMode; 8] = [
        LockMode::AccessShare,
        LockMode::RowShare,
        LockMode::RowExclusive,
        LockMode::ShareUpdateExclusive,
        LockMode::Share,
        LockMode::ShareRowExclusive,
        LockMode::Exclusive,
        LockMode::AccessExclusive,
    ];

    /// From `pg_locks.mode`; `None` for a lock of another kind.
    pub fn named(pg_name: &str) -> Option<LockMode> {
        LockMode::ALL.into_iter().find(|mode| mode.pg_name() == pg_name)
    }

    /// As `pg_locks.mode` writes it.
    pub fn pg_name(self) -> &'static str {
        match self {
            LockMode::AccessShare => "AccessShareLock",
            LockMode::RowShare => "RowShareLock",
            LockMode::RowExclusive => "RowExclusiveLock",
            LockMode::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            LockMode::Share => "ShareLock",
            LockMode::ShareRowExclusive => "ShareRowExclusiveLock",
            LockMode::Exclusive => "ExclusiveLock",
            LockMode::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// Whether INSERT, UPDATE or DELETE wait for it.
    pub fn blocks_writers(self) -> bool {
        self >= LockMode::Share
    }

    /// Whether a plain SELECT waits for it.
    pub fn blocks_readers(self) -> bool {
        self == LockMode::AccessExclusive
    }

    /// The modes that conflict with it.
    pub fn conflicts(self) -> &'static [LockMode] {
        use LockMode::*;
        match self {
            AccessShare => &[AccessExclusive],
            RowShare => &[Exclusive, AccessExclusive],
            RowExclusive => &[Share, ShareRowExclusive, Exclusive, AccessExclusive],
            ShareUpdateExclusive => {
                &[ShareUpdateExclusive, Share, ShareRowExclusive, Exclusive, AccessExclusive]
            }
            Share => &[RowExclusive, ShareUpdateExclusive, ShareRowExclusive, Exclusive, AccessExclusive],
            ShareRowExclusive => {
                &[RowExclusive, ShareUpdateExclusive, Share, ShareRowExclusive, Exclusive, AccessExclusive]
            }
            Exclusive => &[
                RowShare,
                RowExclusive,
                ShareUpdateExclusive,
                Share,
                ShareRowExclusive,
                Exclusive,
                AccessExclusive,
            ],
            AccessExclusive => &[
                AccessShare,
                RowShare,
                RowExclusive,
                ShareUpdateExclusive,
                Share,
                ShareRowExclusive,
                Exclusive,
                AccessExclusive,
            ],
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockMode::AccessShare => "ACCESS SHARE",
            LockMode::RowShare => "ROW SHARE",
            LockMode::RowExclusive => "ROW EXCLUSIVE",
            LockMode::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            LockMode::Share => "SHARE",
            LockMode::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            LockMode::Exclusive => "EXCLUSIVE",
            LockMode::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}

/// What a locked relation is to the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockRole {
    /// What it names.
    Target,
    /// The table an index belongs to.
    Table,
    /// The other side of a foreign key.
    Referenced,
    /// A partition of the target.
    Partition,
    /// The partitioned table that the target is a part of, or its parent by inheritance.
    Parent,
    /// What a query in it reads.
    Read,
    /// The sequence of a column.
    Sequence,
    /// A materialized view that is filled again beside its readers: nobody writes to it.
    Refreshed,
}

/// A lock a statement takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockTaken {
    /// On what.
    pub relation: TableName,
    /// How strong.
    pub mode: LockMode,
    /// Why that relation.
    pub role: LockRole,
}

/// What a statement costs those who use the database meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Locks on relations that existed before.
    pub locks: Vec<LockTaken>,
    /// Reads every row of a table.
    pub scan: bool,
    /// Writes a table anew.
    pub rewrite: bool,
    /// Builds an index over existing rows.
    pub build: bool,
}

impl Cost {
    /// Locks that are held for a moment: nothing is scanned, rewritten or built.
    pub fn brief(locks: Vec<LockTaken>) -> Cost {
        Cost { locks, ..Cost::default() }
    }

    /// An index is built over existing rows.
    pub fn building(locks: Vec<LockTaken>) -> Cost {
        Cost { locks, scan: true, build: true, rewrite: false }
    }

    /// The strongest lock.
    pub fn strongest(&self) -> Option<&LockTaken> {
        self.locks.iter().max_by_key(|lock| lock.mode)
    }

    /// Whether work in proportion to the rows is done while writers or readers wait.
    pub fn works_while_others_wait(&self) -> bool {
        let waits = |lock: &LockTaken| match lock.role {
            LockRole::Refreshed => lock.mode.blocks_readers(),
            _ => lock.mode.blocks_writers(),
        };
        (self.scan || self.rewrite || self.build) && self.locks.iter().any(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_symmetric() {
        use LockMode::*;
        let all = [
            AccessShare,
            RowShare,
            RowExclusive,
            ShareUpdateExclusive,
            Share,
            ShareRowExclusive,
            Exclusive,
            AccessExclusive,
        ];
        for left in all {
            for right in all {
                let there = left.conflicts().contains(&right);
                assert_eq!(there, right.conflicts().contains(&left), "{left} {right}");
            }
            assert_eq!(left.blocks_writers(), left.conflicts().contains(&RowExclusive), "{left}");
            assert_eq!(left.blocks_readers(), left.conflicts().contains(&AccessShare), "{left}");
        }
    }
}
