//! What a table's copy has seen already: changes of such transactions are passed over.
//!
//! Each table was copied as of a moment of its own, after the slot's beginning, or each range of its key as of one. A
//! transaction that the moment's snapshot saw is in the copied rows, though the slot sends it; one that it did not see is not, whatever
//! the order in which the two committed: hence by ids and not by positions. Positions only say when it is over.

use super::change::{Change, Emptying};
use super::pgoutput::{Begin, Cell, OldTuple, Tuple};
use super::shape::Shape;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{lsn::Lsn, snapshot::XidSnapshot};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::{Client, Row};

/// What the copies of an attempt have seen, by table of blue.
#[derive(Debug, Default)]
pub(super) struct Seen {
    tables: HashMap<String, Copied>,
    /// No copy has seen anything that committed here or later.
    over_at: Lsn,
}

/// How a table was copied.
#[derive(Debug)]
enum Copied {
    Whole(Moment),
    /// In ranges of a key, in its order, the first without a lower bound.
    InRanges {
        key: String,
        ranges: Vec<(Option<KeyValue>, Moment)>,
    },
}

#[derive(Debug)]
struct Moment {
    snapshot: XidSnapshot,
    /// Blue's log right after the snapshot was taken.
    at: Lsn,
}

impl Moment {
    fn of(row: &Row) -> Result<Moment> {
        let bug = |why| Error::new(Kind::Bug, why);
        Ok(Moment {
            snapshot: row.get::<_, &str>("xids").parse().map_err(bug)?,
            at: row.get::<_, &str>("seen_lsn").parse().map_err(bug)?,
        })
    }

    fn has_seen(&self, transaction: &Begin) -> bool {
        transaction.commit_lsn < self.at && self.snapshot.sees(transaction.xid)
    }
}

/// A key of a type whose order we know as well as the server does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyValue {
    Integer(i64),
    /// As the server writes it: its order is that of the text.
    Uuid(String),
}

impl KeyValue {
    fn parse(text: &str) -> KeyValue {
        text.parse().map_or_else(|_| KeyValue::Uuid(text.to_owned()), KeyValue::Integer)
    }
}

impl Seen {
    /// Reads what the copy wrote down with the rows.
    ///
    /// # Errors
    /// [`Kind::Server`].
    pub async fn read(green: &Client, attempt: i32) -> Result<Seen> {
        let rows = green
            .query(include_str!("../../sql/stream/read_moments.sql"), &[&attempt])
            .await
            .doing(Kind::Server, || "cannot read the copy's ledger on green".into())?;
        let mut seen = Seen::default();
        for row in &rows {
            let moment = Moment::of(row)?;
            seen.over_at = seen.over_at.max(moment.at);
            let table: String = row.get("table_name");
            let Some(key) = row.get::<_, Option<String>>("key_column") else {
                seen.tables.insert(table, Copied::Whole(moment));
                continue;
            };
            let lower = row.get::<_, Option<&str>>("lower").map(KeyValue::parse);
            let copied = seen.tables.entry(table).or_insert(Copied::InRanges { key, ranges: Vec::new() });
            if let Copied::InRanges { ranges, .. } = copied {
                ranges.push((lower, moment));
            }
        }
        Ok(seen)
    }

    /// Whether some copy may have seen a transaction. The ids of transactions come round again; positions do not.
    pub fn may_have(&self, transaction: &Begin) -> bool {
        transaction.commit_lsn < self.over_at
    }

    /// What of a change the copied rows do not have yet.
    ///
    /// # Errors
    /// [`Kind::Gate`] when the key of a row was changed while its table was copied in ranges of it, and blue does not tell
    /// enough of the row to write it anew.
    pub fn unseen(&self, change: Change, transaction: &Begin) -> Result<Option<Change>> {
        match change {
            Change::Insert { ref shape, ref new } => {
                let seen = self.has_seen(shape, new, transaction);
                Ok((!seen).then_some(change))
            }
            Change::Delete { ref shape, ref old } => {
                let seen = self.has_seen(shape, old.tuple(), transaction);
                Ok((!seen).then_some(change))
            }
            Change::Update { shape, old, new } => {
                let before = old.as_ref().map_or(&new, OldTuple::tuple);
                let old_seen = self.has_seen(&shape, before, transaction);
                let new_seen = self.has_seen(&shape, &new, transaction);
                match (old_seen, new_seen, old) {
                    (true, true, _) => Ok(None),
                    // The range of the old key still has the row; that of the new key has it as well.
                    (false, true, Some(old)) => Ok(Some(Change::Delete { shape, old })),
                    // The range of the old key has lost it already, and that of the new key has not got it.
                    (true, false, old) => Ok(Some(insert_of(shape, old, new)?)),
                    (false, _, old) => Ok(Some(Change::Update { shape, old, new })),
                }
            }
            Change::Truncate { mut shapes, mut emptying, restart_identity } => {
                let told = shapes.len();
                shapes.retain(|shape| !self.has_seen_truncate(shape, transaction));
                if shapes.len() < told {
                    emptying = Emptying::Delete;
                }
                Ok((!shapes.is_empty()).then_some(Change::Truncate { shapes, emptying, restart_identity }))
            }
        }
    }

    fn has_seen(&self, shape: &Shape, row: &Tuple, transaction: &Begin) -> bool {
        match self.tables.get(&shape.blue().plain()) {
            None => false,
            Some(Copied::Whole(moment)) => moment.has_seen(transaction),
            Some(Copied::InRanges { key, ranges }) => {
                let at = shape.relation.columns.iter().position(|column| column.name == *key);
                let Some(Cell::Text(text)) = at.and_then(|at| row.0.get(at)) else { return false };
                let value = KeyValue::parse(&String::from_utf8_lossy(text));
                let after =
                    ranges.partition_point(|(lower, _)| lower.as_ref().is_none_or(|lower| *lower <= value));
                after.checked_sub(1).is_some_and(|range| ranges[range].1.has_seen(transaction))
            }
        }
    }

    /// All ranges of a table have seen a TRUNCATE, or none: the copy begins again when one falls between.
    fn has_seen_truncate(&self, shape: &Shape, transaction: &Begin) -> bool {
        match self.tables.get(&shape.blue().plain()) {
            None => false,
            Some(Copied::Whole(moment)) => moment.has_seen(transaction),
            Some(Copied::InRanges { ranges, .. }) => {
                ranges.iter().all(|(_, moment)| moment.has_seen(transaction))
            }
        }
    }
}

/// The row after an update as a new one. What the update left alone and did not send is taken from the row before.
fn insert_of(shape: Arc<Shape>, old: Option<OldTuple>, mut new: Tuple) -> Result<Change> {
    if let Some(OldTuple::Full(before)) = &old {
        for (cell, before) in new.0.iter_mut().zip(&before.0) {
            if *cell == Cell::Unchanged {
                cell.clone_from(before);
            }
        }
    }
    if new.0.contains(&Cell::Unchanged) {
        return Err(Error::new(
            Kind::Gate,
            format!(
                "the key of a row of {} was changed while the table was copied in ranges of it, and blue did not send all of the row",
                shape.blue().plain()
            ),
        )
        .hint("leave it out of replicate.chunks, or set REPLICA IDENTITY FULL for the time of the copy; then `migrate rollback --all` and replicate again"));
    }
    Ok(Change::Insert { shape, new })
}
