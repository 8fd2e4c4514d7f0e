//! A change of blue's, with the shape that says how green takes it.

use super::dirty::DirtyKey;
use super::pgoutput::{Cell, OldTuple, Tuple};
use super::shape::{Locate, Shape};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// A change of a row, or the emptying of tables.
#[derive(Debug)]
pub(super) enum Change {
    Insert { shape: Arc<Shape>, new: Tuple },
    Update { shape: Arc<Shape>, old: Option<OldTuple>, new: Tuple },
    Delete { shape: Arc<Shape>, old: OldTuple },
    Truncate { shapes: Vec<Arc<Shape>>, emptying: Emptying, restart_identity: bool },
}

/// How tables are emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptying {
    /// TRUNCATE of just these.
    Restrict,
    /// TRUNCATE … CASCADE.
    Cascade,
    /// DELETE of all rows: other tables of the same TRUNCATE were copied after it and keep theirs, while TRUNCATE wants
    /// every table that refers to one.
    Delete,
}

impl Change {
    /// An update. What it did not send of a mapped row is taken from the whole row before, when blue told that.
    pub fn update(shape: Arc<Shape>, old: Option<OldTuple>, mut new: Tuple) -> Change {
        if let (Some(_), Some(OldTuple::Full(before))) = (&shape.mapped, &old) {
            for (cell, before) in new.0.iter_mut().zip(&before.0) {
                if *cell == Cell::Unchanged {
                    cell.clone_from(before);
                }
            }
        }
        Change::Update { shape, old, new }
    }

    /// Checks that the rows fit the shape, and that a changed row can be found again.
    ///
    /// # Errors
    /// [`Kind::Gate`] when green has nothing to find the row by.
    pub fn check(&self) -> Result<()> {
        match self {
            Change::Insert { shape, new } => check_width(shape, new),
            Change::Update { shape, old, new } => {
                check_width(shape, new)?;
                check_located(shape, old.as_ref())
            }
            Change::Delete { shape, old } => {
                check_width(shape, old.tuple())?;
                check_located(shape, Some(old))
            }
            Change::Truncate { .. } => Ok(()),
        }
    }

    /// The shape of the row's table.
    pub fn shape(&self) -> Option<&Arc<Shape>> {
        match self {
            Change::Insert { shape, .. } | Change::Update { shape, .. } | Change::Delete { shape, .. } => {
                Some(shape)
            }
            Change::Truncate { .. } => None,
        }
    }

    /// Whether it is of a row of a table that is merged with others on green.
    pub fn is_merged(&self) -> bool {
        self.shape().is_some_and(|shape| shape.is_merged())
    }

    /// The row after it.
    pub fn after(&self) -> Option<&Tuple> {
        match self {
            Change::Insert { new, .. } | Change::Update { new, .. } => Some(new),
            Change::Delete { .. } | Change::Truncate { .. } => None,
        }
    }

    /// What tells the row before it apart: the row after, when the key kept its value.
    pub fn before(&self) -> Option<&Tuple> {
        match self {
            Change::Update { old, new, .. } => Some(old.as_ref().map_or(new, OldTuple::tuple)),
            Change::Delete { old, .. } => Some(old.tuple()),
            Change::Insert { .. } | Change::Truncate { .. } => None,
        }
    }

    /// How many rows, or tables emptied, it counts for.
    pub fn rows(&self) -> u64 {
        match self {
            Change::Truncate { shapes, .. } => shapes.len() as u64,
            _ => 1,
        }
    }

    /// The keys it touches, the last one first.
    pub fn keys(&self) -> impl Iterator<Item = DirtyKey> + '_ {
        let (shape, tuples) = match self {
            Change::Insert { shape, new } => (Some(shape), [Some(new), None]),
            Change::Update { shape, old, new } => {
                (Some(shape), [Some(new), old.as_ref().map(OldTuple::tuple)])
            }
            Change::Delete { shape, old } => (Some(shape), [Some(old.tuple()), None]),
            Change::Truncate { .. } => (None, [None, None]),
        };
        let keyed = shape.filter(|shape| matches!(shape.locate, Locate::Key(_)));
        tuples.into_iter().flatten().filter_map(move |tuple| Some(dirty_key(keyed?, tuple)))
    }
}

/// A row's table and key, in text; without a key, the table alone.
fn dirty_key(shape: &Shape, tuple: &Tuple) -> DirtyKey {
    DirtyKey { table: shape.blue(), key: shape.key_cells(tuple).map(key_text).collect() }
}

/// A cell of a key, as keys are told.
pub(super) fn key_text(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Cell::Null | Cell::Unchanged => String::new(),
    }
}

fn check_width(shape: &Shape, tuple: &Tuple) -> Result<()> {
    if tuple.0.len() == shape.targets.len() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Server,
        format!("blue sent a row of {} that does not fit its shape", shape.green.plain()),
    ))
}

fn check_located(shape: &Shape, old: Option<&OldTuple>) -> Result<()> {
    let why = match (&shape.locate, old) {
        (Locate::Key(_), _) | (Locate::WholeRow, Some(OldTuple::Full(_))) => return Ok(()),
        (Locate::Nowhere(why), _) => why.as_str(),
        (Locate::WholeRow, _) => "blue did not send the whole row before",
    };
    Err(Error::new(
        Kind::Gate,
        format!("a changed row of {} cannot be found on green: {why}", shape.green.plain()),
    )
    .hint("Give the table a primary key on both sides, or REPLICA IDENTITY FULL on blue, before the copy."))
}
