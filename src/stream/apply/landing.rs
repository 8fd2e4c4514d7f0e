//! Landing tables: temporary ones with the columns of a followed table, into which rows are streamed and from which one
//! statement updates or deletes all of them.
//!
//! One for each table and session, emptied by each commit in place, so that no batch leaves anything in green's catalog.

use super::landed_map;
use crate::stream::shape::{Shape, ShapeId, Target};
use std::collections::{HashMap, HashSet};
use tokio_postgres::Statement;

/// Each commit empties all of them, so a session has no more than this many. Rows of further tables are written one by one.
const LANDINGS_MAX: usize = 64;

/// Updates are told apart by which cells were not sent: one statement each, and no more than this many for a table.
const UPDATES_MAX: usize = 100;

/// The number on a landed row that is to be deleted; updates have theirs from 0 on.
pub(super) const DELETED: i16 = -1;

/// The number on a landed row that is to be inserted: only mapped rows land for that.
pub(super) const INSERTED: i16 = -2;

/// A landing table and its statements.
#[derive(Debug)]
pub(super) struct Landing {
    name: String,
    /// Rows lie in it that this transaction has done with.
    pub used: bool,
    /// By the cells that are not sent.
    updates: HashMap<Vec<bool>, i16>,
    pub statements: HashMap<LandingStatement, Statement>,
}

/// A statement of a landing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LandingStatement {
    /// Streams rows into it.
    Fill,
    Delete,
    /// By its number.
    Update(i16),
    /// Of mapped rows.
    Insert,
    /// How many rows the others have to find, when a condition decides.
    Count,
}

/// The landing tables of a session.
#[derive(Debug, Default)]
pub(super) struct Landings {
    by_shape: HashMap<ShapeId, Landing>,
    /// Made in the open transaction.
    new: HashSet<ShapeId>,
    /// Why none can be made, if so.
    pub refused: bool,
    made: usize,
    /// Streams rows straight into a followed table.
    pub inserts: HashMap<ShapeId, Statement>,
}

impl Landings {
    pub fn get(&mut self, shape: &Shape) -> Option<&mut Landing> {
        self.by_shape.get_mut(&shape.id())
    }

    /// Whether one is there for a table, or may be made.
    pub fn has_room(&self, shape: &Shape) -> bool {
        self.by_shape.contains_key(&shape.id()) || (!self.refused && self.by_shape.len() < LANDINGS_MAX)
    }

    /// Adds one that the caller makes now, and gives the command for it.
    pub fn add(&mut self, shape: &Shape) -> String {
        self.made += 1;
        let name = format!("migrate_landing_{}", self.made);
        let sql = match &shape.mapped {
            Some(mapped) => landed_map::create(&name, mapped),
            None => {
                let column = |at: usize| {
                    let under = shape.types.get(at).and_then(|of| of.under_domain.as_ref());
                    let cast = under.map_or_else(String::new, |under| format!("::{under}"));
                    format!(", {}{cast} as c{at}", shape.column(at))
                };
                let columns: Vec<_> = shape.written().map(column).collect();
                format!(
                    "create temporary table {name} on commit delete rows as select 0::int2 as way{} from {} with no data",
                    columns.concat(),
                    shape.green
                )
            }
        };
        let landing = Landing { name, used: false, updates: HashMap::new(), statements: HashMap::new() };
        self.by_shape.insert(shape.id(), landing);
        self.new.insert(shape.id());
        sql
    }

    /// The open transaction was committed: what it made stays, empty.
    pub fn keep_new(&mut self) {
        self.new.clear();
        self.by_shape.values_mut().for_each(|landing| landing.used = false);
    }

    /// What the open transaction made since its savepoint was taken back.
    pub fn forget_new(&mut self) {
        for id in self.new.drain() {
            self.by_shape.remove(&id);
        }
    }
}

impl Landing {
    /// The number of updates that leave these cells as they are; none when there are too many kinds of them.
    pub fn number(&mut self, unchanged: Vec<bool>) -> Option<i16> {
        let next = self.updates.len();
        if let Some(number) = self.updates.get(&unchanged) {
            return Some(*number);
        }
        let number = i16::try_from(next).ok().filter(|_| next < UPDATES_MAX)?;
        self.updates.insert(unchanged, number);
        Some(number)
    }

    /// The cells that an update of this number leaves as they are.
    fn unchanged(&self, number: i16) -> Option<&[bool]> {
        self.updates.iter().find(|(_, known)| **known == number).map(|(unchanged, _)| unchanged.as_slice())
    }

    /// Empties it within a transaction.
    pub fn clear(&self) -> String {
        format!("truncate pg_temp.{}", self.name)
    }

    /// The text of a statement; none for an update of an unknown number.
    pub fn sql(&self, shape: &Shape, statement: LandingStatement) -> Option<String> {
        if let Some(mapped) = &shape.mapped {
            return landed_map::sql(&self.name, mapped, statement, |number| self.unchanged(number));
        }
        let found: Vec<_> = shape
            .key()
            .iter()
            .map(|at| format!("t.{} {} l.c{at}", shape.column(*at), shape.equals(*at)))
            .collect();
        let found = found.join(" and ");
        let (green, landing) = (&shape.green, &self.name);
        Some(match statement {
            LandingStatement::Fill => {
                let columns: Vec<_> = shape.written().map(|at| format!(", c{at}")).collect();
                format!("copy pg_temp.{landing} (way{}) from stdin", columns.concat())
            }
            LandingStatement::Delete => {
                format!(
                    "delete from {green} as t using pg_temp.{landing} as l where l.way = {DELETED} and {found}"
                )
            }
            LandingStatement::Update(number) => {
                let unchanged = self.unchanged(number)?;
                let (mut sets, mut kept) = (Vec::new(), String::new());
                for at in shape.written().filter(|at| !unchanged[*at] && !shape.key().contains(at)) {
                    let column = shape.column(at);
                    match shape.targets[at] {
                        Target::IdentityAlways => kept += &format!(" and t.{column} = l.c{at}"),
                        _ => sets.push(format!("{column} = l.c{at}")),
                    }
                }
                let sets = sets.join(", ");
                format!(
                    "update {green} as t set {sets} from pg_temp.{landing} as l where l.way = {number} and {found}{kept}"
                )
            }
            LandingStatement::Insert | LandingStatement::Count => return None,
        })
    }
}

/// Whether an update that leaves these cells as they are has anything to set.
pub(super) fn sets_something(shape: &Shape, unchanged: &[bool]) -> bool {
    shape
        .written()
        .any(|at| !unchanged[at] && !shape.key().contains(&at) && shape.targets[at] != Target::IdentityAlways)
}

/// The text of the statement that streams rows straight into a followed table.
pub(super) fn insert_sql(shape: &Shape) -> String {
    let columns: Vec<_> = shape.written().map(|at| shape.column(at).to_string()).collect();
    format!("copy {} ({}) from stdin", shape.green, columns.join(", "))
}
