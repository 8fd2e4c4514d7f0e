//! Blue's transactions, as far as a rule looks at them: whole, with only the columns some rule needs.

use super::rule;
use crate::error::{Error, Kind, Result};
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::plan::{ChangeOp, RevocationRule};
use crate::stream::pgoutput::{Cell, Message, OldTuple, Relation, Tuple};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The most bytes of one transaction that are held until it commits.
const HELD_BYTES_MAX: usize = 512 << 20;

/// What is known of a column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// SQL null.
    Null,
    /// Its text form.
    Text(Bytes),
    /// Blue's log does not carry it.
    Unknown,
}

/// The columns of a table that some rule needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// The table.
    pub table: TableName,
    columns: Vec<WantedColumn>,
}

#[derive(Debug, PartialEq, Eq)]
struct WantedColumn {
    name: String,
    /// Its place in the tuples.
    at: usize,
    is_key: bool,
}

/// A row, as far as it is wanted and known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    shape: Arc<Shape>,
    values: Vec<Value>,
}

impl Row {
    /// What is known of a column; one that the log does not have at all is unknown too.
    pub fn value(&self, column: &str) -> &Value {
        let at = self.shape.columns.iter().position(|wanted| wanted.name == column);
        at.and_then(|at| self.values.get(at)).unwrap_or(&Value::Unknown)
    }

    fn bytes(&self) -> usize {
        let text = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
        self.values.iter().map(|value| std::mem::size_of::<Value>() + text(value)).sum()
    }
}

/// One change of a table that has a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place among the transaction's changes of such tables, from 0.
    pub ordinal: u64,
    /// The table.
    pub table: Arc<Shape>,
    /// Its kind.
    pub op: ChangeOp,
    /// The row before; `None` for INSERT.
    pub old: Option<Row>,
    /// The row after; `None` for DELETE.
    pub new: Option<Row>,
}

/// One committed transaction of blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Position of its commit record: what names its messages.
    pub commit_lsn: Lsn,
    /// First byte after it: the position to confirm and to resume from.
    pub end_lsn: Lsn,
    /// Changes of tables that have a rule, in order.
    pub changes: Vec<Change>,
    /// Such tables that were truncated: every row went, and none is named.
    pub truncated: Vec<TableName>,
}

/// Puts messages together to transactions.
pub struct Gatherer {
    rules: Vec<RevocationRule>,
    shapes: HashMap<u32, Arc<Shape>>,
    open: Option<Transaction>,
    next_ordinal: u64,
    held_bytes: usize,
}

impl Gatherer {
    /// For these rules.
    pub fn new(rules: &[RevocationRule]) -> Gatherer {
        Gatherer { rules: rules.to_vec(), shapes: HashMap::new(), open: None, next_ordinal: 0, held_bytes: 0 }
    }

    /// Whether a transaction has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next message; gives the transaction when this was its end.
    ///
    /// # Errors
    /// [`Kind::Server`] when messages come in an impossible order, or one transaction is too large to hold.
    pub fn take(&mut self, message: Message) -> Result<Option<Transaction>> {
        match message {
            Message::Begin(begin) => {
                self.next_ordinal = 0;
                self.held_bytes = 0;
                self.open = Some(Transaction {
                    commit_lsn: begin.commit_lsn,
                    end_lsn: begin.commit_lsn,
                    changes: Vec::new(),
                    truncated: Vec::new(),
                });
            }
            Message::Commit(commit) => {
                let mut transaction = self.open.take().ok_or_else(out_of_order)?;
                transaction.end_lsn = commit.end_lsn;
                return Ok(Some(transaction));
            }
            Message::Relation(relation) => self.learn(&relation),
            Message::Insert { relation, new } => self.change(relation, ChangeOp::Insert, None, Some(new))?,
            Message::Update { relation, old, new } => {
                self.change(relation, ChangeOp::Update, old, Some(new))?;
            }
            Message::Delete { relation, old } => self.change(relation, ChangeOp::Delete, Some(old), None)?,
            Message::Truncate { relations, .. } => self.truncate(&relations)?,
            Message::Origin { .. } | Message::Type { .. } | Message::Logical(_) => {}
        }
        Ok(None)
    }

    fn learn(&mut self, relation: &Relation) {
        let table = TableName::new(&relation.schema, &relation.name);
        let rules: Vec<_> = self.rules.iter().filter(|rule| rule.table == table).collect();
        if rules.is_empty() {
            self.shapes.remove(&relation.oid);
            return;
        }
        let wanted = |column: &str| rules.iter().any(|rule| rule::needs_column(rule, column));
        let columns = relation
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| wanted(&column.name))
            .map(|(at, column)| WantedColumn { name: column.name.clone(), at, is_key: column.is_key })
            .collect();
        self.shapes.insert(relation.oid, Arc::new(Shape { table, columns }));
    }

    fn change(
        &mut self,
        relation: u32,
        op: ChangeOp,
        old: Option<OldTuple>,
        new: Option<Tuple>,
    ) -> Result<()> {
        let Some(shape) = self.shapes.get(&relation) else { return Ok(()) };
        let transaction = self.open.as_mut().ok_or_else(out_of_order)?;
        let new = new.map(|tuple| row(shape, &tuple, |_| true));
        let old = match (old, &new) {
            (Some(OldTuple::Full(tuple)), _) => Some(row(shape, &tuple, |_| true)),
            (Some(OldTuple::Key(tuple)), _) => Some(row(shape, &tuple, |column| column.is_key)),
            // An update that says nothing of the row before left its key alone.
            (None, Some(new)) if op == ChangeOp::Update => Some(key_of(new)),
            (None, _) => None,
        };
        let new = new.map(|new| with_unchanged_from(new, old.as_ref()));
        self.held_bytes += [&old, &new].into_iter().flatten().map(Row::bytes).sum::<usize>();
        if self.held_bytes > HELD_BYTES_MAX {
            return Err(too_large(transaction.commit_lsn));
        }
        transaction.changes.push(Change { ordinal: self.next_ordinal, table: shape.clone(), op, old, new });
        self.next_ordinal += 1;
        Ok(())
    }

    fn truncate(&mut self, relations: &[u32]) -> Result<()> {
        let tables: BTreeSet<_> = relations
            .iter()
            .filter_map(|oid| self.shapes.get(oid))
            .map(|shape| shape.table.clone())
            .collect();
        let transaction = self.open.as_mut().ok_or_else(out_of_order)?;
        transaction.truncated.extend(tables);
        Ok(())
    }
}

fn out_of_order() -> Error {
    Error::new(Kind::Server, "blue sent a change outside of a transaction to the capture of revocations")
}

fn too_large(commit_lsn: Lsn) -> Error {
    Error::new(
        Kind::Server,
        format!(
            "blue's transaction at {commit_lsn} changes too many rows with a revocation rule to be held at once (over {} MB)",
            HELD_BYTES_MAX >> 20
        ),
    )
    .hint("Nothing is lost: the capture's slot keeps it. Start again with a fresh copy, taken after that transaction.")
}

fn row(shape: &Arc<Shape>, tuple: &Tuple, known: impl Fn(&WantedColumn) -> bool) -> Row {
    let value = |column: &WantedColumn| match tuple.0.get(column.at) {
        Some(cell) if known(column) => match cell {
            Cell::Null => Value::Null,
            // Copied, so that a few small values do not keep a whole network buffer.
            Cell::Text(text) => Value::Text(Bytes::copy_from_slice(text)),
            Cell::Unchanged => Value::Unknown,
        },
        _ => Value::Unknown,
    };
    Row { shape: shape.clone(), values: shape.columns.iter().map(value).collect() }
}

fn key_of(new: &Row) -> Row {
    let value = |(column, value): (&WantedColumn, &Value)| {
        if column.is_key { value.clone() } else { Value::Unknown }
    };
    Row { shape: new.shape.clone(), values: new.shape.columns.iter().zip(&new.values).map(value).collect() }
}

/// A large value that an update left alone is not sent again; the whole old row has it.
fn with_unchanged_from(mut new: Row, old: Option<&Row>) -> Row {
    if let Some(old) = old {
        for (value, before) in new.values.iter_mut().zip(&old.values) {
            if *value == Value::Unknown {
                *value = before.clone();
            }
        }
    }
    new
}

#[cfg(test)]
pub(crate) mod tests;
