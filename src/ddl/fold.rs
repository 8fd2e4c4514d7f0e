//! Folding: statements that are one change, across statements and files.

use super::{
    parse::{self, NodeEnum, node::AlterTableType},
    rules::{drop_index, swap_index},
    source::Statement,
};
use crate::pg::name::TableName;
use std::collections::{BTreeMap, VecDeque};

mod constraint;

/// What is rewritten as a whole.
#[derive(Debug)]
pub(super) enum Unit {
    /// A statement by itself.
    One(Box<Statement>),
    /// An index dropped and created again under the same name; runs where the CREATE is.
    Swap { drop: Box<Statement>, create: Box<Statement>, index: TableName },
    /// An index dropped and created again, with something between that needs the gap.
    Gap { drop: Box<Statement>, create_place: crate::finding::Place, between: crate::finding::Place },
    /// A constraint dropped and added again under the same name, as one ALTER TABLE in the place of the second.
    Constraint { drop: Box<Statement>, add: Box<Statement>, both: Box<Statement> },
    /// A constraint dropped and added again, with something between that needs the gap.
    ConstraintGap { drop: Box<Statement>, add_place: crate::finding::Place, between: crate::finding::Place },
}

/// How far apart two statements may be and still be one change, counted in statements. What comes later is read when it is
/// needed: all trees of 100,000 lines at once took 260 MB.
const REACH: usize = 2000;

/// Cuts statements that name several indexes, and pairs DROP INDEX with the CREATE INDEX that follows.
pub(super) fn units(statements: impl Iterator<Item = Statement>) -> impl Iterator<Item = Unit> {
    Units {
        unread: statements.flat_map(drop_index::one_by_one).fuse(),
        ahead: VecDeque::new(),
        next: 0,
        created: BTreeMap::new(),
        swaps: Vec::new(),
    }
}

struct Units<Statements> {
    unread: Statements,
    /// The next statements; `None` where a unit took one.
    ahead: VecDeque<Option<Statement>>,
    /// The number of the first of them, counted from the plan's first.
    next: usize,
    /// Where each index name is given to a new index: looking through all statements for each DROP INDEX took 100,000 lines
    /// of SQL from 2 seconds to 12.
    created: BTreeMap<String, Vec<usize>>,
    /// What runs in the place of a later statement, by its number.
    swaps: Vec<(usize, Unit)>,
}

impl<Statements: Iterator<Item = Statement>> Iterator for Units<Statements> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        loop {
            self.read_ahead();
            let statement = self.ahead.pop_front()?;
            let at = self.next;
            self.next += 1;
            if let Some(found) = self.swaps.iter().position(|(place, _)| *place == at) {
                return Some(self.swaps.swap_remove(found).1);
            }
            let Some(statement) = statement else { continue };
            if let Some(unit) = self.unit(statement) {
                return Some(unit);
            }
        }
    }
}

impl<Statements: Iterator<Item = Statement>> Units<Statements> {
    fn read_ahead(&mut self) {
        while self.ahead.len() <= REACH {
            let Some(statement) = self.unread.next() else { return };
            if let NodeEnum::IndexStmt(index) = &statement.tree {
                let number = self.next + self.ahead.len();
                self.created.entry(index.idxname.clone()).or_default().push(number);
            }
            self.ahead.push_back(Some(statement));
        }
    }

    /// What a statement begins; `None` when it waits for its other half. `self.next` is the number of the one after it.
    fn unit(&mut self, statement: Statement) -> Option<Unit> {
        let (ahead, next) = (self.ahead.make_contiguous(), self.next);
        match constraint::pair(&statement, ahead) {
            constraint::Pair::None => {}
            constraint::Pair::Swap { add, both } => {
                let added = Box::new(ahead[add].take()?);
                self.swaps
                    .push((next + add, Unit::Constraint { drop: Box::new(statement), add: added, both }));
                return None;
            }
            constraint::Pair::Apart { add_place, between } => {
                return Some(Unit::ConstraintGap { drop: Box::new(statement), add_place, between });
            }
        }
        let made = |name: &str| {
            let numbers = self.created.get(name).into_iter().flatten();
            numbers.filter_map(|made| made.checked_sub(next))
        };
        let drop = Box::new(statement);
        match pair(&drop, ahead, made) {
            Pair::None => Some(Unit::One(drop)),
            Pair::Apart { create, between } => {
                let place = |nth: usize| ahead[nth].as_ref().map(|one| one.place.clone());
                Some(match (place(create), place(between)) {
                    (Some(create_place), Some(between)) => Unit::Gap { drop, create_place, between },
                    _ => Unit::One(drop),
                })
            }
            Pair::Swap { create, index } => {
                let created = Box::new(ahead[create].take()?);
                self.swaps.push((next + create, Unit::Swap { drop, create: created, index }));
                None
            }
        }
    }
}

enum Pair {
    None,
    Swap { create: usize, index: TableName },
    Apart { create: usize, between: usize },
}

/// `made` gives the places in `after` where an index of a name is created.
fn pair<Places: Iterator<Item = usize>>(
    drop: &Statement,
    after: &[Option<Statement>],
    made: impl Fn(&str) -> Places,
) -> Pair {
    let Some((schema, name)) = swap_index::dropped(drop) else { return Pair::None };
    let found = made(&name).find_map(|at| {
        let statement = after[at].as_ref()?;
        let NodeEnum::IndexStmt(index) = &statement.tree else { return None };
        let range = index.relation.as_ref()?;
        let same_schema = schema.is_empty()
            || range.schemaname == schema
            || (range.schemaname.is_empty()
                && statement.search_path.first().is_some_and(|first| first.as_str() == schema));
        let same_path = drop.search_path == statement.search_path || !range.schemaname.is_empty();
        (same_schema && same_path).then(|| (at, range.clone()))
    });
    let Some((create, range)) = found else { return Pair::None };
    let table = (range.schemaname.clone(), range.relname.clone());
    match after[..create].iter().position(|one| one.as_ref().is_some_and(|one| !may_wait(one, &table))) {
        Some(between) => Pair::Apart { create, between },
        None => Pair::Swap { create, index: TableName::new(range.schemaname, name) },
    }
}

/// Whether a statement between the two means the same while the old index is still there.
fn may_wait(statement: &Statement, table: &(String, String)) -> bool {
    match &statement.tree {
        NodeEnum::IndexStmt(_)
        | NodeEnum::ReindexStmt(_)
        | NodeEnum::TransactionStmt(_)
        | NodeEnum::VariableSetStmt(_) => true,
        NodeEnum::DropStmt(drop) if drop_index::of(statement).is_some() => !drop.objects.is_empty(),
        NodeEnum::AlterTableStmt(alter) => {
            !names(statement, table)
                || alter.cmds.iter().all(|command| match &command.node {
                    Some(NodeEnum::AlterTableCmd(command)) => matches!(
                        command.subtype(),
                        AlterTableType::AtAddColumn
                            | AlterTableType::AtColumnDefault
                            | AlterTableType::AtSetStatistics
                    ),
                    _ => false,
                })
        }
        NodeEnum::DropStmt(_) | NodeEnum::DoStmt(_) | NodeEnum::CallStmt(_) | NodeEnum::RenameStmt(_) => {
            false
        }
        _ => !names(statement, table),
    }
}

fn names(statement: &Statement, (schema, name): &(String, String)) -> bool {
    parse::relations(&statement.tree)
        .iter()
        .any(|found| found.1 == *name && (found.0 == *schema || found.0.is_empty() || schema.is_empty()))
}
