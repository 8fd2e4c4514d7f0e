//! Folding: statements that are one change, across statements and files.

use super::{
    parse::{self, NodeEnum, node::AlterTableType},
    rules::{drop_index, swap_index},
    source::Statement,
};
use crate::pg::name::TableName;
use std::collections::BTreeMap;

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

/// Cuts statements that name several indexes, and pairs DROP INDEX with the CREATE INDEX that follows.
pub(super) fn units(statements: Vec<Statement>) -> Vec<Unit> {
    let mut statements: Vec<Option<Statement>> =
        statements.into_iter().flat_map(drop_index::one_by_one).map(Some).collect();
    let created = indexes_created(&statements);
    let mut units = Vec::new();
    let mut swaps: Vec<(usize, Unit)> = Vec::new();
    for at in 0..statements.len() {
        if let Some(found) = swaps.iter().position(|(place, _)| *place == at) {
            units.push(swaps.swap_remove(found).1);
            continue;
        }
        let Some(statement) = statements[at].take() else { continue };
        match constraint::pair(&statement, &statements[at + 1..]) {
            constraint::Pair::None => {}
            constraint::Pair::Swap { add, both } => {
                if let Some(added) = statements[at + 1 + add].take() {
                    let drop = Box::new(statement);
                    swaps.push((at + 1 + add, Unit::Constraint { drop, add: Box::new(added), both }));
                }
                continue;
            }
            constraint::Pair::Apart { add_place, between } => {
                units.push(Unit::ConstraintGap { drop: Box::new(statement), add_place, between });
                continue;
            }
        }
        let made = |name: &str| {
            created.get(name).into_iter().flatten().filter(|made| **made > at).map(|made| made - at - 1)
        };
        match pair(&statement, &statements[at + 1..], made) {
            Pair::None => units.push(Unit::One(Box::new(statement))),
            Pair::Apart { create, between } => {
                let place = |nth: usize| statements[at + 1 + nth].as_ref().map(|one| one.place.clone());
                match (place(create), place(between)) {
                    (Some(create_place), Some(between)) => {
                        units.push(Unit::Gap { drop: Box::new(statement), create_place, between });
                    }
                    _ => units.push(Unit::One(Box::new(statement))),
                }
            }
            Pair::Swap { create, index } => {
                if let Some(created) = statements[at + 1 + create].take() {
                    let (drop, created) = (Box::new(statement), Box::new(created));
                    swaps.push((at + 1 + create, Unit::Swap { drop, create: created, index }));
                }
            }
        }
    }
    units
}

enum Pair {
    None,
    Swap { create: usize, index: TableName },
    Apart { create: usize, between: usize },
}

/// Where each index name is given to a new index: looking through all statements for each DROP INDEX took 100,000 lines of
/// SQL from 2 seconds to 12.
fn indexes_created(statements: &[Option<Statement>]) -> BTreeMap<String, Vec<usize>> {
    let mut created: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, statement) in statements.iter().enumerate() {
        if let Some(Statement { tree: NodeEnum::IndexStmt(index), .. }) = statement {
            created.entry(index.idxname.clone()).or_default().push(at);
        }
    }
    created
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
