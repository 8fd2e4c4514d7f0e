//! What we created on green, by oid, so that exactly that can be dropped again.
//!
//! The clone and the plan's SQL run on a green that may hold things of others: extensions, another schema, a role's
//! own tables. So each looks at all objects before and after, in its transaction, and records the difference in
//! `migrate.manifest`. Oids, because the plan's SQL may rename what the clone made. Taking back drops the recorded
//! objects that still exist, with what hangs on them, and looks again: when something vanished that is in none of our
//! records, the transaction rolls back and the error names it. What hangs on another record's objects may go with them: the
//! plan's SQL may attach a table of the clone to one of its own. Roles and settings are not made here.

use super::lease;
use crate::error::{Doing, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

const LIST_OBJECTS: &str = include_str!("../../sql/copy/list_objects.sql");
const IDENTIFY_OBJECT: &str = include_str!("../../sql/copy/identify_object.sql");

/// An object by catalog and oid, with the name it had when it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Object {
    class: u32,
    oid: u32,
    identity: String,
}

/// All objects at one time: those of the system, of extensions and in schema `migrate` left out.
pub struct Seen(BTreeMap<(u32, u32), SeenObject>);

struct SeenObject {
    identity: String,
    /// Of an index: its table.
    indexed: Option<u32>,
}

/// Looks at all objects. Begin with it, in the transaction that will make some.
///
/// # Errors
/// [`Kind::Server`].
pub async fn look(green: &Client) -> Result<Seen> {
    let rows = green
        .query(LIST_OBJECTS, &[])
        .await
        .doing(Kind::Server, || "green's objects cannot be listed".into())?;
    let seen =
        |row: &tokio_postgres::Row| SeenObject { identity: row.get("identity"), indexed: row.get("indexed") };
    Ok(Seen(rows.iter().map(|row| ((row.get("class"), row.get("oid")), seen(row))).collect()))
}

/// Records what is there and was not `before`, under a label, in the caller's transaction.
///
/// # Errors
/// [`Kind::Server`].
pub async fn record(green: &Client, label: &str, before: &Seen) -> Result<()> {
    let now = look(green).await?;
    let mut made: Vec<Object> = now
        .0
        .into_iter()
        .filter(|(key, _)| !before.0.contains_key(key))
        .map(|((class, oid), seen)| Object { class, oid, identity: seen.identity })
        .collect();
    made.sort_by_key(|object| object.oid);
    let made =
        serde_json::to_string(&made).doing(Kind::Bug, || "the record of objects cannot be written".into())?;
    green
        .execute(
            "insert into migrate.manifest (object, prior) values ($1, $2::text::jsonb)",
            &[&key(label), &made],
        )
        .await
        .doing(Kind::Server, || "the record of objects cannot be written on green".into())?;
    Ok(())
}

/// Whether something is recorded under a label.
///
/// # Errors
/// [`Kind::Server`].
pub async fn is_recorded(green: &Client, label: &str) -> Result<bool> {
    Ok(recorded(green, label).await?.is_some())
}

fn key(label: &str) -> String {
    format!("made: {label}")
}

async fn recorded(green: &Client, label: &str) -> Result<Option<Vec<Object>>> {
    let row = green
        .query_opt("select prior::text from migrate.manifest where object = $1", &[&key(label)])
        .await
        .doing(Kind::Server, || "the record of objects cannot be read on green".into())?;
    row.map(|row| serde_json::from_str(row.get(0)))
        .transpose()
        .doing(Kind::Bug, || format!("the record of objects under `{label}` cannot be read"))
}

/// Every object that we made, under whatever label.
async fn all_recorded(green: &Client) -> Result<BTreeSet<(u32, u32)>> {
    let doing = || "the records of objects cannot be read on green".to_owned();
    let rows = green
        .query("select prior::text from migrate.manifest where starts_with(object, $1)", &[&key("")])
        .await
        .doing(Kind::Server, doing)?;
    let mut all = BTreeSet::new();
    for row in &rows {
        let made: Vec<Object> = serde_json::from_str(row.get(0)).doing(Kind::Bug, doing)?;
        all.extend(made.iter().map(|object| (object.class, object.oid)));
    }
    Ok(all)
}

/// Drops what is recorded under a label, in one transaction of its own, and forgets the record. Nothing recorded: does nothing.
///
/// Objects of our other records that hang on it go along: who takes this back takes back the others next, and finds them gone.
/// A crash in the middle leaves everything.
///
/// # Errors
/// [`Kind::Request`] when the drop would take something that is not recorded by us; it is named, and nothing is
/// dropped. [`Kind::Lease`], [`Kind::Server`].
pub async fn drop_all(green: &Client, label: &str, epoch: i64) -> Result<()> {
    let result = drop_in_transaction(green, label, epoch).await;
    if result.is_err() {
        // The first error is the one to tell; when this fails too, the session is gone and the server has rolled back.
        let _ = green.batch_execute("rollback").await;
    }
    result
}

async fn drop_in_transaction(green: &Client, label: &str, epoch: i64) -> Result<()> {
    lease::begin(green, epoch).await?;
    if let Some(made) = recorded(green, label).await? {
        let all_made = all_recorded(green).await?;
        let before = look(green).await?;
        green
            .batch_execute("set local lock_timeout = '30s'")
            .await
            .doing(Kind::Server, || "lock_timeout cannot be set on green".into())?;
        // Newest first: most of what depends on something was made after it.
        for object in made.iter().rev() {
            drop_one(green, object).await?;
        }
        let after = look(green).await?;
        let is_made = |class: u32, oid: u32| all_made.contains(&(class, oid));
        let strangers: Vec<&str> = before
            .0
            .iter()
            .filter(|(key, _)| !after.0.contains_key(key))
            // An index is part of its table: the copy makes some anew, which get other oids than were recorded.
            .filter(|((class, oid), seen)| {
                !is_made(*class, *oid) && !seen.indexed.is_some_and(|table| is_made(*class, table))
            })
            .map(|(_, seen)| seen.identity.as_str())
            .collect();
        if !strangers.is_empty() {
            return Err(Error::new(
                Kind::Request,
                format!("dropping what we made on green would also drop {}", strangers.join(", ")),
            )
            .hint("drop or move those yourself, then do this again"));
        }
        green
            .execute("delete from migrate.manifest where object = $1", &[&key(label)])
            .await
            .doing(Kind::Server, || "the record of objects cannot be removed on green".into())?;
    }
    lease::commit(green, "the drop").await
}

/// Drops an object if it still exists.
async fn drop_one(green: &Client, object: &Object) -> Result<()> {
    let row = green
        .query_opt(IDENTIFY_OBJECT, &[&object.class, &object.oid])
        .await
        .doing(Kind::Server, || format!("{} cannot be looked up on green", object.identity))?;
    let Some(row) = row else { return Ok(()) };
    let (kind, identity): (String, String) = (row.get("kind"), row.get("identity"));
    green
        .batch_execute(&format!("drop {kind} {identity} cascade"))
        .await
        .doing(Kind::Server, || format!("{kind} {identity} cannot be dropped on green"))
}
