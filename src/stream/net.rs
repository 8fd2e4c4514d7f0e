//! The net effect of a batch: for each key of a green table, what is left to do when only its state before and after
//! the batch counts.
//!
//! Pure: it looks at changes in blue's order and says, key by key, insert, update, delete or replace; or it says why
//! that cannot be said, and then the batch has to be written in exact order.

use super::change::Change;
use super::pgoutput::{Cell, OldTuple, Tuple};
use super::shape::{Locate, Shape, ShapeId};
use crate::pg::name::TableName;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Why a batch has no net effect, in a few words for the log.
pub(super) type Unfoldable = &'static str;

const INSERTED_TWICE: Unfoldable = "a key was inserted twice";

/// A row to write: as blue sent it, or put together from several changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetRow {
    /// The new row of this change of the batch.
    Sent(usize),
    /// Cells that a change left unchanged were taken from an earlier one.
    Merged(Tuple),
}

/// What a key comes to. Numbers are changes of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The row was not there before, and is not there after.
    Nothing,
    Insert(NetRow),
    /// The row was there, and stays; cells may be left unchanged.
    Update(NetRow),
    /// By the row before this change.
    Delete(usize),
    /// The row was deleted, and one of the same key inserted: columns that blue does not have start anew.
    Replace(usize, NetRow),
}

/// The effects on one green table.
#[derive(Debug)]
pub(super) struct TableEffect {
    pub shape: Arc<Shape>,
    /// In the order in which the keys were first met.
    pub effects: Vec<Effect>,
    /// For each effect the first change of its key: the row before that is the row that green has.
    pub firsts: Vec<usize>,
    /// Where the effect on each key is. While nothing but new rows came, nobody asks: none of 5 million keys is hashed then.
    places: Option<HashMap<Bytes, usize>>,
}

/// The effects on all tables, in the order in which they were first met.
#[derive(Debug, Default)]
pub(super) struct NetEffect {
    pub tables: Vec<TableEffect>,
    by_shape: HashMap<ShapeId, usize>,
    /// The table of the last change.
    last: Option<usize>,
    /// It is of tables that are merged alone: changes of all others are to be written in their order.
    pub of_merged_alone: bool,
}

impl NetRow {
    /// The cells.
    pub fn tuple<'c>(&'c self, changes: &'c [Change]) -> Option<&'c Tuple> {
        match self {
            NetRow::Sent(at) => changes.get(*at)?.after(),
            NetRow::Merged(tuple) => Some(tuple),
        }
    }
}

impl NetEffect {
    /// Adds `changes[at]`; all before it were added.
    ///
    /// # Errors
    /// Why no net effect can be given any more.
    pub fn add(&mut self, changes: &[Change], at: usize) -> Result<(), Unfoldable> {
        match &changes[at] {
            Change::Insert { shape, .. } => {
                let table = self.table(shape)?;
                match shape.locate {
                    Locate::Key(_) => table.insert(changes, at, NetRow::Sent(at)),
                    // Nothing else of this table can be in the batch: changes of rows without a key do not fold.
                    Locate::WholeRow | Locate::Nowhere(_) => {
                        table.push(at, Effect::Insert(NetRow::Sent(at)));
                        Ok(())
                    }
                }
            }
            Change::Update { shape, old, new } => self.table(shape)?.update(changes, at, old.as_ref(), new),
            Change::Delete { shape, old } => {
                let table = self.table(shape)?;
                table.find_places(changes)?;
                let key = key_of(&table.shape, old.tuple())?;
                table.delete(key, at)
            }
            Change::Truncate { .. } => Err("a table was truncated"),
        }
    }

    /// The net effect on tables that are merged, where all changes have none together; none when these have none either.
    pub fn of_merged(changes: &[Change]) -> Option<NetEffect> {
        let empties = |change: &Change| match change {
            Change::Truncate { shapes, .. } => shapes.iter().any(|shape| shape.is_merged()),
            _ => false,
        };
        if changes.iter().any(empties) {
            return None;
        }
        let mut net = NetEffect { of_merged_alone: true, ..NetEffect::default() };
        let mut merged = (0..changes.len()).filter(|at| changes[*at].is_merged());
        merged.try_for_each(|at| net.add(changes, at)).ok()?;
        (!net.tables.is_empty()).then_some(net)
    }

    fn table(&mut self, shape: &Arc<Shape>) -> Result<&mut TableEffect, Unfoldable> {
        // Most often it is the table of the change before.
        if let Some(at) = self.last.filter(|at| self.tables[*at].shape.id() == shape.id()) {
            return Ok(&mut self.tables[at]);
        }
        let at = match self.by_shape.entry(shape.id()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                if let Some(why) = shape.only_row_by_row {
                    return Err(why);
                }
                let same = |green: &TableName| self.tables.iter().any(|table| table.shape.green == *green);
                if !shape.is_merged() && same(&shape.green) {
                    return Err("several of blue's tables are one of green's");
                }
                self.tables.push(TableEffect {
                    shape: Arc::clone(shape),
                    effects: Vec::new(),
                    firsts: Vec::new(),
                    places: None,
                });
                *vacant.insert(self.tables.len() - 1)
            }
        };
        self.last = Some(at);
        Ok(&mut self.tables[at])
    }
}

impl TableEffect {
    /// Makes it known where the effect on each key is, before something but a new row is added.
    fn find_places(&mut self, changes: &[Change]) -> Result<(), Unfoldable> {
        if self.places.is_some() || !matches!(self.shape.locate, Locate::Key(_)) {
            return Ok(());
        }
        let mut places = HashMap::with_capacity(self.effects.len());
        for (at, effect) in self.effects.iter().enumerate() {
            let Effect::Insert(row) = effect else { return Err("a change came before its key was known") };
            let key = key_of(&self.shape, row.tuple(changes).ok_or("a change has no row")?)?;
            if places.insert(key, at).is_some() {
                return Err(INSERTED_TWICE);
            }
        }
        self.places = Some(places);
        Ok(())
    }

    fn effect(&self, key: &Bytes) -> Option<&Effect> {
        self.places.as_ref()?.get(key).map(|at| &self.effects[*at])
    }

    fn push(&mut self, at: usize, effect: Effect) {
        self.effects.push(effect);
        self.firsts.push(at);
    }

    fn set(&mut self, key: Bytes, at: usize, effect: Effect) {
        let next = self.effects.len();
        let place = *self.places.get_or_insert_default().entry(key).or_insert(next);
        match self.effects.get_mut(place) {
            Some(known) => *known = effect,
            None => self.push(at, effect),
        }
    }

    /// A key that is inserted twice and never looked at again is green's to refuse.
    fn insert(&mut self, changes: &[Change], at: usize, row: NetRow) -> Result<(), Unfoldable> {
        if self.places.is_none() {
            self.push(at, Effect::Insert(row));
            return Ok(());
        }
        let new = row.tuple(changes).ok_or("a change has no row")?;
        let key = key_of(&self.shape, new)?;
        let effect = match self.effect(&key) {
            None | Some(Effect::Nothing) => Effect::Insert(row),
            Some(Effect::Delete(deleted)) => Effect::Replace(*deleted, row),
            Some(_) => return Err(INSERTED_TWICE),
        };
        self.set(key, at, effect);
        Ok(())
    }

    fn delete(&mut self, key: Bytes, at: usize) -> Result<(), Unfoldable> {
        let effect = match self.effect(&key) {
            None | Some(Effect::Update(_) | Effect::Replace(..)) => Effect::Delete(at),
            Some(Effect::Insert(_)) => Effect::Nothing,
            Some(Effect::Nothing | Effect::Delete(_)) => return Err("a key was deleted twice"),
        };
        self.set(key, at, effect);
        Ok(())
    }

    fn update(
        &mut self,
        changes: &[Change],
        at: usize,
        old: Option<&OldTuple>,
        new: &Tuple,
    ) -> Result<(), Unfoldable> {
        if !matches!(self.shape.locate, Locate::Key(_)) {
            return Err("a row without a key was changed");
        }
        self.find_places(changes)?;
        let key_before = key_of(&self.shape, old.map_or(new, OldTuple::tuple))?;
        if old.is_some() && key_of(&self.shape, new)? != key_before {
            return self.change_key(changes, at, old, key_before);
        }
        let merged = |row: &NetRow| merge(row.tuple(changes), new, at);
        let effect = match self.effect(&key_before) {
            None => Effect::Update(NetRow::Sent(at)),
            Some(Effect::Insert(row)) => Effect::Insert(merged(row)),
            Some(Effect::Update(row)) => Effect::Update(merged(row)),
            Some(Effect::Replace(deleted, row)) => Effect::Replace(*deleted, merged(row)),
            Some(Effect::Nothing | Effect::Delete(_)) => return Err("a deleted key was updated"),
        };
        self.set(key_before, at, effect);
        Ok(())
    }

    /// A row moves to another key: deleted there, inserted here, which needs all of its cells.
    fn change_key(
        &mut self,
        changes: &[Change],
        at: usize,
        old: Option<&OldTuple>,
        key_before: Bytes,
    ) -> Result<(), Unfoldable> {
        if !self.shape.moves_whole {
            return Err("a key was changed, and green keeps more of the row than blue sends");
        }
        let new = changes[at].after().ok_or("a change has no row")?;
        let row = match (self.effect(&key_before), old) {
            (Some(Effect::Insert(row) | Effect::Update(row) | Effect::Replace(_, row)), _) => {
                merge(row.tuple(changes), new, at)
            }
            (None, Some(OldTuple::Full(before))) => merge(Some(before), new, at),
            (None, _) => NetRow::Sent(at),
            (Some(Effect::Nothing | Effect::Delete(_)), _) => {
                return Err("the key of a deleted row was changed");
            }
        };
        if row.tuple(changes).is_none_or(|row| row.0.contains(&Cell::Unchanged)) {
            return Err("a key was changed, and a TOAST value of the row was not sent");
        }
        self.delete(key_before, at)?;
        self.insert(changes, at, row)
    }
}

/// The newer row over an earlier one: what it left unchanged is as it was.
fn merge(earlier: Option<&Tuple>, new: &Tuple, at: usize) -> NetRow {
    match earlier {
        Some(earlier) if new.0.contains(&Cell::Unchanged) => {
            let cell = |(new, earlier): (&Cell, &Cell)| match new {
                Cell::Unchanged => earlier.clone(),
                sent => sent.clone(),
            };
            NetRow::Merged(Tuple(new.0.iter().zip(&earlier.0).map(cell).collect()))
        }
        _ => NetRow::Sent(at),
    }
}

/// The key's cells as one text. Equal texts are equal keys: output functions are fixed, and a change names its row as
/// the row is at that moment.
fn key_of(shape: &Shape, tuple: &Tuple) -> Result<Bytes, Unfoldable> {
    let Locate::Key(key) = &shape.locate else { return Err("a row without a key was changed") };
    let cell = |at: &usize| match tuple.0.get(*at) {
        Some(Cell::Text(text)) => Ok(text),
        _ => Err("a part of a key is null or was not sent"),
    };
    if let [at] = key.as_slice() {
        return cell(at).cloned();
    }
    let mut joined = BytesMut::new();
    for at in key {
        let text = cell(at)?;
        // With its length before it, no value can run into the next.
        joined.put_u64(text.len() as u64);
        joined.extend_from_slice(text);
    }
    Ok(joined.freeze())
}

#[cfg(test)]
mod tests;
