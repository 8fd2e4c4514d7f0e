//! Whether green may be filled, and emptying it again.

use super::lease;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use crate::plan::types::SchemaFrom;
use tokio_postgres::Client;

const LIST_OCCUPANTS: &str = include_str!("../../sql/copy/list_occupants.sql");
const LIST_KINDS: &str = include_str!("../../sql/copy/list_kinds.sql");

/// What stands on green where our schema or rows shall go, by name; empty when green is.
///
/// With a schema from blue, that is any relation in the schemas of `tables` that is neither an extension's nor ours;
/// else any of `tables` that has a row. The caller knows whether the journal says that they are ours: then it is fine.
///
/// # Errors
/// [`Kind::Server`] when green cannot be asked, or (with a schema of its own) has no such table.
pub async fn occupants(green: &Client, from: SchemaFrom, tables: &[TableName]) -> Result<Vec<String>> {
    match from {
        SchemaFrom::Blue => {
            let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
            let rows = green
                .query(LIST_OCCUPANTS, &[&schemas])
                .await
                .doing(Kind::Server, || "green's relations cannot be listed".into())?;
            Ok(rows.iter().map(|row| row.get("relation")).collect())
        }
        SchemaFrom::None => {
            let mut occupied = Vec::new();
            for table in tables {
                let row = green
                    .query_one(&format!("select exists (select from {table})"), &[])
                    .await
                    .doing(Kind::Server, || format!("green's table {} cannot be read", table.plain()))?;
                if row.get(0) {
                    occupied.push(table.plain());
                }
            }
            Ok(occupied)
        }
    }
}

/// How far emptying goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// These tables and no other.
    These,
    /// Tables that refer to them as well: after the vendor's SQL, a copied table may be there under another name.
    AllThatRefer,
}

/// Takes the copy back: empties the tables, all in one transaction, and forgets the ledger's rows of the attempt.
///
/// Tables that are gone are passed over. A crash in the middle leaves all rows.
///
/// # Errors
/// [`Kind::Server`] when green refuses, as when another table's foreign key points here; [`Kind::Lease`].
pub async fn forget(
    green: &Client,
    tables: &[TableName],
    reach: Reach,
    attempt: i32,
    epoch: i64,
) -> Result<()> {
    let result = forget_in_transaction(green, tables, reach, attempt, epoch).await;
    if result.is_err() {
        // The first error is the one to tell; when this fails too, the session is gone and the server has rolled back.
        let _ = green.batch_execute("rollback").await;
    }
    result
}

async fn forget_in_transaction(
    green: &Client,
    tables: &[TableName],
    reach: Reach,
    attempt: i32,
    epoch: i64,
) -> Result<()> {
    lease::begin(green, epoch).await?;
    // As a replica, neither the tables' own TRUNCATE triggers nor our gate have a say.
    green
        .batch_execute("set local session_replication_role = replica; set local lock_timeout = '30s'")
        .await
        .map_err(lease::no_replica_role)?;
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let there = green
        .query(LIST_KINDS, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "green's tables cannot be listed".into())?;
    if !there.is_empty() {
        let list: Vec<String> = there.iter().map(|row| row.get("target")).collect();
        let cascade = match reach {
            Reach::These => "",
            Reach::AllThatRefer => " cascade",
        };
        green
            .batch_execute(&format!("truncate table {}{cascade}", list.join(", ")))
            .await
            .doing(Kind::Server, || "the copied tables cannot be emptied on green".into())?;
    }
    green
        .execute(
            "with cut as (delete from migrate.copy_chunk where attempt = $1)
             delete from migrate.copy_table where attempt = $1",
            &[&attempt],
        )
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be cleared on green".into())?;
    lease::commit(green, "the emptied tables").await
}

/// For a gate before the first copy: one error that names what is there.
///
/// # Errors
/// [`Kind::Findings`] when `occupants` is not empty.
pub fn refuse(occupants: &[String]) -> Result<()> {
    const SHOWN: usize = 10;
    if occupants.is_empty() {
        return Ok(());
    }
    let mut list = occupants.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if occupants.len() > SHOWN {
        list.push_str(&format!(" and {} more", occupants.len() - SHOWN));
    }
    Err(Error::new(Kind::Findings, format!("green is not empty: {list}"))
        .hint("give migrate a new database, or drop these yourself when nobody needs them"))
}
