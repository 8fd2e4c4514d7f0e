//! The journal: append-only, on green (in place: on that database), written only by the engine.

use super::status::JournalEvent;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{connect, conninfo::ConnInfo};
use crate::step::StepId;
use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The step.
    pub step: StepId,
    /// What happened to it.
    pub event: JournalEvent,
    /// What it wrote down.
    pub note: Option<serde_json::Value>,
}

/// Where entries are kept.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Adds an entry; it is durable when this returns.
    async fn append(&self, entry: &Entry) -> Result<()>;
    /// All entries of the attempt, oldest first.
    async fn read(&self) -> Result<Vec<Entry>>;
}

/// The journal in Postgres. Each append proves in its own statement that the lease is still ours.
///
/// A connection that broke is opened anew: a server that restarts inside a cutover must not keep us from going back.
pub struct PgJournal {
    info: ConnInfo,
    client: Mutex<tokio_postgres::Client>,
    attempt: i32,
    epoch: i64,
}

impl PgJournal {
    /// Over a dedicated connection to `info`.
    pub fn new(info: ConnInfo, client: tokio_postgres::Client, attempt: i32, epoch: i64) -> PgJournal {
        PgJournal { info, client: Mutex::new(client), attempt, epoch }
    }

    async fn client(&self) -> Result<MutexGuard<'_, tokio_postgres::Client>> {
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = connect::connect(&self.info, "journal").await?;
        }
        Ok(client)
    }

    /// Opens a new connection, whatever the old one is waiting for.
    pub async fn reconnect(&self) -> Result<()> {
        *self.client.lock().await = connect::connect(&self.info, "journal").await?;
        Ok(())
    }
}

#[async_trait]
impl Journal for PgJournal {
    async fn append(&self, entry: &Entry) -> Result<()> {
        let client = self.client().await?;
        let written = client
            .execute(
                include_str!("../../sql/engine/append_journal.sql"),
                &[&self.attempt, &self.epoch, &entry.step.as_str(), &entry.event.as_str(), &entry.note],
            )
            .await
            .doing(Kind::Stopped, || {
                format!("cannot write to the journal that {} {:?}", entry.step, entry.event)
            })?;
        if written == 1 { Ok(()) } else { Err(lease_lost()) }
    }

    async fn read(&self) -> Result<Vec<Entry>> {
        let client = self.client().await?;
        read(&client, self.attempt).await
    }
}

/// Reads an attempt's journal without the lease, for `status` and `report`.
pub async fn read(client: &tokio_postgres::Client, attempt: i32) -> Result<Vec<Entry>> {
    let rows = client
        .query(include_str!("../../sql/engine/read_journal.sql"), &[&attempt])
        .await
        .doing(Kind::Server, || "cannot read the journal".into())?;
    rows.iter()
        .map(|row| {
            let event: String = row.get("event");
            Ok(Entry {
                step: StepId::new(row.get::<_, String>("step")),
                event: JournalEvent::parse(&event).ok_or_else(|| {
                    Error::new(Kind::Bug, format!("the journal holds an event called `{event}`"))
                        .hint("a newer version of migrate wrote it; use that one")
                })?,
                note: row.get("note"),
            })
        })
        .collect()
}

/// The error of every transaction of ours that finds another epoch than its own.
pub fn lease_lost() -> Error {
    Error::new(Kind::Lease, "another migrate has taken over this migration; this one stops")
        .hint("`migrate status` names the holder")
}
