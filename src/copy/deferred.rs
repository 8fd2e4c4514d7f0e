//! Takes indexes and constraints away before the rows, with a record to make them again ([`super::rebuild`]).
//!
//! Primary keys too: a key kept row by row costs more than all of it sorted at once, and nobody looks for a row by it
//! before green follows. What stays is the index of a replica identity, what a view or function needs, and the whole
//! tree of a partitioned index when one part stays. Taken back by emptying the tables and rebuilding. Record and drop
//! are one transaction: a crash leaves all of them in place, or all recorded.

use super::lease;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{
    conninfo::ConnInfo,
    name::{Ident, TableName},
};
use std::fmt;
use tokio_postgres::Client;

const LIST_DEFERRABLE: &str = include_str!("../../sql/copy/list_deferrable.sql");
const RECORD_DEFERRED: &str = include_str!("../../sql/copy/record_deferred.sql");

/// What kind of object was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeferredKind {
    /// A PRIMARY KEY; its columns stay NOT NULL without it.
    PrimaryKey,
    /// An index without a constraint; it may be unique.
    Index,
    /// A UNIQUE constraint.
    Unique,
    /// An EXCLUDE constraint.
    Exclusion,
    /// A CHECK constraint.
    Check,
    /// A foreign key.
    ForeignKey,
}

impl DeferredKind {
    /// As the state schema writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeferredKind::PrimaryKey => "primary_key",
            DeferredKind::Index => "index",
            DeferredKind::Unique => "unique",
            DeferredKind::Exclusion => "exclusion",
            DeferredKind::Check => "check",
            DeferredKind::ForeignKey => "foreign_key",
        }
    }

    /// From how the state schema writes it.
    ///
    /// # Errors
    /// [`Kind::Bug`] for any other word.
    pub fn parse(word: &str) -> Result<DeferredKind> {
        use DeferredKind::{Check, Exclusion, ForeignKey, Index, PrimaryKey, Unique};
        [PrimaryKey, Index, Unique, Exclusion, Check, ForeignKey]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| Error::new(Kind::Bug, format!("`{word}` is not a kind of deferred object")))
    }
}

impl fmt::Display for DeferredKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeferredKind::PrimaryKey => "primary key",
            DeferredKind::Index => "index",
            DeferredKind::Unique => "unique constraint",
            DeferredKind::Exclusion => "exclusion constraint",
            DeferredKind::Check => "check",
            DeferredKind::ForeignKey => "foreign key",
        })
    }
}

/// Records and drops what can be made after the rows, for these tables of green and the partition trees they are in.
/// Returns how many objects. What an earlier call of this attempt recorded stays recorded.
///
/// # Errors
/// [`Kind::Server`] when a drop is refused or two objects of one table have one name; [`Kind::Lease`]. Nothing is
/// dropped then.
pub async fn defer(green: &ConnInfo, tables: &[TableName], attempt: i32, epoch: i64) -> Result<u64> {
    let client = lease::session(green, "defer indexes", epoch).await?;
    lease::begin(&client, epoch).await?;
    client
        .batch_execute("set local lock_timeout = '30s'")
        .await
        .doing(Kind::Server, || "lock_timeout cannot be set on green".into())?;
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let found = client
        .query(LIST_DEFERRABLE, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "green's indexes and constraints cannot be listed".into())?;
    for row in &found {
        let kind = DeferredKind::parse(row.get("kind"))?;
        let table = TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("tbl"));
        let name = Ident::new(row.get::<_, String>("name"));
        record(&client, row, attempt).await?;
        drop_object(&client, &table, &name, kind).await?;
    }
    lease::commit(&client, "the drop of indexes and constraints").await?;
    Ok(found.len() as u64)
}

async fn record(client: &Client, row: &tokio_postgres::Row, attempt: i32) -> Result<()> {
    let (table, name): (String, String) = (row.get("table_name"), row.get("name"));
    let (kind, definition): (String, String) = (row.get("kind"), row.get("definition"));
    let written = client
        .execute(RECORD_DEFERRED, &[&attempt, &table, &name, &kind, &definition])
        .await
        .doing(Kind::Server, || format!("{kind} {name} of {table} cannot be recorded on green"))?;
    if written == 0 {
        return Err(Error::new(Kind::Request, format!("two objects of {table} on green are called {name}"))
            .hint("rename one of them: the record keeps one object a name"));
    }
    Ok(())
}

/// A child that its parent's drop took along is gone already.
async fn drop_object(client: &Client, table: &TableName, name: &Ident, kind: DeferredKind) -> Result<()> {
    let sql = match kind {
        DeferredKind::Index => format!("drop index if exists {}.{name}", table.schema),
        _ => format!("alter table {table} drop constraint if exists {name}"),
    };
    client
        .batch_execute(&sql)
        .await
        .doing(Kind::Server, || format!("{kind} {name} of {} cannot be dropped on green", table.plain()))
}
