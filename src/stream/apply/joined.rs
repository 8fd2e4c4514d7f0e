//! Joined tables, kept in the transactions that change the copies they are made of.
//!
//! Which rows of green a change concerns is asked of the copies twice: before any of a batch's changes is written, for what its
//! rows meant until then, and after all of them. Both are needed, since the key of one row may be found through another that the
//! same batch changes. The rows concerned are made anew once, before the commit: halfway through a transaction of blue the query
//! may give what no unique index of green's takes.

use super::Writer;
use super::pending::{About, Pending, in_time};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{JoinStatements, Joining, Rows};
use crate::pg::name::TableName;
use crate::pg::target;
use crate::stream::change::{Change, key_text};
use crate::stream::shape::Shape;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_postgres::{Client, Statement};

/// Planned for look-ups by key, all the while; when all rows are made anew, for that.
const FOR_ALL_ROWS: &str = "set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on; \
     set local enable_material = on; set local enable_bitmapscan = on; set local plan_cache_mode = force_custom_plan";
const AS_BEFORE: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off; \
     set local enable_material = off; set local enable_bitmapscan = off; set local plan_cache_mode = force_generic_plan";

/// The joined tables of a session.
#[derive(Default)]
pub(super) struct JoinedTables(Vec<JoinedTable>);

/// A joined table, and what the open transaction has changed of it.
struct JoinedTable {
    green: TableName,
    /// By the table of blue whose rows changed.
    note: BTreeMap<TableName, Statement>,
    concerned: Vec<Statement>,
    /// As text: rarely needed, and planned by what the tables hold then.
    all: Vec<String>,
    changed: Changed,
}

/// How much of a joined table changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    /// The rows that were noted.
    Noted,
    /// All may have: one of the copies was emptied.
    All,
}

impl JoinedTables {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is made of a table of blue.
    pub fn read(&self, blue: &TableName) -> bool {
        self.0.iter().any(|table| table.note.contains_key(blue))
    }
}

impl Writer {
    /// Makes ready to keep joined tables, which are filled.
    ///
    /// # Errors
    /// [`Kind::Gate`] when a join does not fit green any more, [`Kind::Server`].
    pub async fn keep_joined(&mut self, joinings: &[Arc<Joining>]) -> Result<()> {
        for (number, joining) in joinings.iter().enumerate() {
            let joined = target::join(&*self.client, joining).await?;
            let statements = joining.statements(&joined, number).ok_or_else(unreadable)?;
            let table = prepare(&self.client, joining, &statements).await?;
            self.joined.0.push(table);
        }
        Ok(())
    }

    /// Notes which joined rows some changes concern, as the copies are now: before they are written, and again after it.
    pub(super) async fn note_joined(&mut self, changes: &[Change]) -> Result<()> {
        if self.joined.is_empty() {
            return Ok(());
        }
        let changed = ChangedKeys::of(changes);
        for at in 0..self.joined.0.len() {
            let table = &mut self.joined.0[at];
            if table.note.keys().any(|blue| changed.emptied.contains(blue)) {
                table.changed = Changed::All;
            }
            let notes: Vec<_> = table
                .note
                .iter()
                .filter_map(|(blue, statement)| Some((statement.clone(), changed.keys.get(blue)?)))
                .collect();
            if !notes.is_empty() {
                table.changed = table.changed.max(Changed::Noted);
            }
            let green = table.green.clone();
            for (statement, keys) in notes {
                let columns = columns(keys);
                let client = Arc::clone(&self.client);
                let noted = async move {
                    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                        columns.iter().map(|column| column as _).collect();
                    client.execute(&statement, &parameters).await
                };
                let about = About::Joined { table: green.clone() };
                self.pipeline.send(Pending::start(noted, about).await).await?;
            }
        }
        Ok(())
    }

    /// Makes the rows anew that the open transaction concerns; its last act before the commit.
    pub(super) async fn write_joined(&mut self) -> Result<()> {
        for at in 0..self.joined.0.len() {
            let table = &mut self.joined.0[at];
            let green = table.green.clone();
            match std::mem::replace(&mut table.changed, Changed::Nothing) {
                Changed::Nothing => {}
                Changed::Noted => {
                    for statement in table.concerned.clone() {
                        let client = Arc::clone(&self.client);
                        let written = async move { client.execute(&statement, &[]).await };
                        let about = About::Joined { table: green.clone() };
                        self.pipeline.send(Pending::start(written, about).await).await?;
                    }
                }
                Changed::All => {
                    let texts =
                        [&[FOR_ALL_ROWS.to_owned()], table.all.as_slice(), &[AS_BEFORE.to_owned()]].concat();
                    for sql in texts {
                        let client = Arc::clone(&self.client);
                        let written = async move { client.batch_execute(&sql).await.map(|()| 0) };
                        let about = About::Joined { table: green.clone() };
                        self.pipeline.send(Pending::start(written, about).await).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Has the session's temporary tables, and the statements over them.
async fn prepare(client: &Client, joining: &Joining, statements: &JoinStatements<'_>) -> Result<JoinedTable> {
    let doing = || format!("cannot prepare to keep joined rows of {} on green", joining.green.plain());
    client
        .batch_execute(&statements.make_tables())
        .await
        .doing(Kind::Server, doing)
        .map_err(|error| error.hint("The role needs TEMPORARY on green's database."))?;
    let mut note = BTreeMap::new();
    for source in &joining.sources {
        let sql = statements.note(source).ok_or_else(unreadable)?;
        note.insert(
            source.blue.name.clone(),
            in_time(client.prepare(&sql)).await?.doing(Kind::Server, doing)?,
        );
    }
    let texts = |make: String, rows| -> Vec<String> {
        [make, statements.take(rows)].into_iter().chain(statements.bring()).collect()
    };
    let mut concerned = Vec::new();
    for sql in texts(statements.make(), Rows::Concerned) {
        concerned.push(in_time(client.prepare(&sql)).await?.doing(Kind::Server, doing)?);
    }
    let all = texts(statements.make_all(), Rows::All);
    Ok(JoinedTable { green: joining.green.clone(), note, concerned, all, changed: Changed::Nothing })
}

/// What a batch touches, by table of blue.
#[derive(Default)]
struct ChangedKeys {
    keys: BTreeMap<TableName, BTreeSet<Vec<String>>>,
    emptied: BTreeSet<TableName>,
}

impl ChangedKeys {
    fn of(changes: &[Change]) -> ChangedKeys {
        let mut changed = ChangedKeys::default();
        for change in changes {
            if let Change::Truncate { shapes, .. } = change {
                let joined = shapes.iter().filter(|shape| shape.is_joined());
                changed.emptied.extend(joined.map(|shape| shape.blue()));
            }
            let Some(shape) = change.shape().filter(|shape| shape.is_joined()) else { continue };
            for row in [change.before(), change.after()].into_iter().flatten() {
                let key: Vec<String> = shape.key_cells(row).map(key_text).collect();
                changed.of_table(shape).insert(key);
            }
        }
        changed
    }

    fn of_table(&mut self, shape: &Shape) -> &mut BTreeSet<Vec<String>> {
        self.keys.entry(shape.blue()).or_default()
    }
}

/// Keys as an array for each column.
fn columns(keys: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
    let width = keys.first().map_or(0, Vec::len);
    (0..width).map(|at| keys.iter().filter_map(|key| key.get(at).cloned()).collect()).collect()
}

fn unreadable() -> Error {
    Error::new(Kind::Bug, "a join cannot be read any more")
}
