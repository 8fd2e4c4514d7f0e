//! What a table's copy has seen already: changes of such transactions are passed over.
//!
//! Each table was copied as of a moment of its own, after the slot's beginning. A transaction that the moment's snapshot saw
//! is in the copied rows, though the slot sends it; one that it did not see is not, whatever the order in which the two
//! committed: hence by ids and not by positions. Positions only say when it is over.

use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{lsn::Lsn, name::TableName, snapshot::XidSnapshot};
use crate::stream::pgoutput::Begin;
use std::collections::HashMap;
use tokio_postgres::Client;

/// What the copies of an attempt have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    moments: HashMap<String, Moment>,
    /// No copy has seen anything that committed here or later.
    over_at: Lsn,
}

#[derive(Debug)]
struct Moment {
    snapshot: XidSnapshot,
    /// Blue's log right after the snapshot was taken.
    at: Lsn,
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
            let bug = |why| Error::new(Kind::Bug, why);
            let moment = Moment {
                snapshot: row.get::<_, &str>("xids").parse().map_err(bug)?,
                at: row.get::<_, &str>("seen_lsn").parse().map_err(bug)?,
            };
            seen.over_at = seen.over_at.max(moment.at);
            seen.moments.insert(row.get("table_name"), moment);
        }
        Ok(seen)
    }

    /// Whether some copy may have seen a transaction. The ids of transactions come round again; positions do not.
    pub fn may_have(&self, transaction: &Begin) -> bool {
        transaction.commit_lsn < self.over_at
    }

    /// Whether the copy of a table of blue has seen a transaction.
    pub fn has(&self, table: &TableName, transaction: &Begin) -> bool {
        self.moments
            .get(&table.plain())
            .is_some_and(|moment| transaction.commit_lsn < moment.at && moment.snapshot.sees(transaction.xid))
    }
}
