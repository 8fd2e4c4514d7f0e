//! The moment of blue that a table is copied as of.
//!
//! Each table has a moment of its own, so that no snapshot is held on blue for longer than one table needs, and what is
//! whole stays when a copy is cut. The follower passes over what a table's snapshot saw (`stream::seen`); a table's pieces
//! share one moment, since a row that an update moves between blocks would be in both of two snapshots, or in neither.

use super::{lease, rows::CopySpec};
use crate::error::{Doing, Kind, Result};
use tokio_postgres::Client;

const READ_MOMENT: &str = include_str!("../../sql/copy/read_moment.sql");

/// What a snapshot of blue's saw, and where blue's log was right after it, both as the server tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) xids: String,
    pub(super) seen_lsn: String,
}

impl Moment {
    /// Of the transaction that is open: its snapshot, taken now if it was not yet.
    pub(super) async fn read(blue: &Client) -> Result<Moment> {
        let row = blue
            .query_one(READ_MOMENT, &[])
            .await
            .doing(Kind::Server, || "blue does not tell its snapshot".into())?;
        Ok(Moment { xids: row.get("xids"), seen_lsn: row.get("seen_lsn") })
    }
}

/// A moment held open for several sessions, until dropped. It locks nothing.
pub(super) struct HeldMoment {
    _session: Client,
    pub(super) moment: Moment,
    /// The name to import its snapshot by.
    pub(super) exported: String,
}

impl HeldMoment {
    pub(super) async fn take(spec: &CopySpec) -> Result<HeldMoment> {
        let session = lease::session(&spec.blue, "copy snapshot", spec.epoch).await?;
        let refused = || "blue does not export a snapshot".into();
        session
            .batch_execute("begin isolation level repeatable read read only")
            .await
            .doing(Kind::Server, refused)?;
        let row = session.query_one("select pg_export_snapshot()", &[]).await.doing(Kind::Server, refused)?;
        let exported = row.get(0);
        let moment = Moment::read(&session).await?;
        Ok(HeldMoment { _session: session, moment, exported })
    }
}
