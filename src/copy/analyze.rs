//! Statistics for green's planner, before anybody queries it.

use super::lease;
use crate::error::{Doing, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::{conninfo::ConnInfo, name::TableName};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Client, Row};

const LIST_ROOTS: &str = include_str!("../../sql/copy/list_roots.sql");

/// A sample is read and sorted by one core; as many builds of indexes ran before.
const SESSIONS: usize = 2;

/// A table, or the root of a partition tree, which is analyzed with its leaves.
struct Root {
    name: TableName,
    bytes: u64,
}

/// Runs ANALYZE on the tables, the biggest first, and on the partitioned tables above them. Doing it again is harmless.
///
/// # Errors
/// [`Kind::Server`] naming the table; [`Kind::Lease`]. Statistics made until then stay.
pub async fn analyze(green: &ConnInfo, tables: &[TableName], epoch: i64, ears: &Ears) -> Result<()> {
    let mut sessions = vec![session(green, epoch).await?];
    let waiting = roots(&sessions[0], tables).await?;
    for _ in 1..SESSIONS.min(waiting.len()) {
        sessions.push(session(green, epoch).await?);
    }
    let waiting = Mutex::new(waiting);
    let work = sessions.iter().map(|session| analyze_next(session, &waiting, epoch, ears));
    futures_util::future::try_join_all(work).await?;
    Ok(())
}

async fn session(green: &ConnInfo, epoch: i64) -> Result<Client> {
    let client = lease::session(green, "analyze", epoch).await?;
    client
        .batch_execute("set lock_timeout = '10min'")
        .await
        .doing(Kind::Server, || "a session for ANALYZE cannot be prepared on green".into())?;
    Ok(client)
}

async fn roots(client: &Client, tables: &[TableName]) -> Result<VecDeque<Root>> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = client
        .query(LIST_ROOTS, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "green's tables cannot be listed".into())?;
    let root = |row: &Row| Root {
        name: TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("tbl")),
        bytes: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or(0),
    };
    Ok(rows.iter().map(root).collect())
}

/// Takes tables until none is left.
async fn analyze_next(
    client: &Client,
    waiting: &Mutex<VecDeque<Root>>,
    epoch: i64,
    ears: &Ears,
) -> Result<()> {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(Root { name, bytes }) = next else { return Ok(()) };
        lease::begin(client, epoch).await?;
        client
            .batch_execute(&format!("analyze {name}"))
            .await
            .doing(Kind::Server, || format!("{} cannot be analyzed on green", name.plain()))?;
        lease::commit(client, "statistics").await?;
        let subject = format!("statistics of {}", name.plain());
        ears.tell(Event::Progress { subject, rows: 0, bytes, total_bytes: bytes, done: true });
    }
}
