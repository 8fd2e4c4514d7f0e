//! CREATE TABLE: nobody uses it yet. A foreign key to a table in use locks that one for a moment.

use super::{Outcome, Rule, as_written, unknown_relation};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{NodeEnum, node},
    scene::{Known, Scene},
    source::Statement,
    statement::Undo,
};

const RECIPE: &str = "create_table";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Nobody uses a new table; a foreign key to one in use locks that one for a moment.",
    manual: "sql-createtable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::CreateStmt(create) = &statement.tree else { return None };
    let range = create.relation.as_ref()?;
    // A partition or child of a table in use locks that table; see the catalogue.
    let parents = create.inh_relations.iter().filter_map(|item| match &item.node {
        Some(NodeEnum::RangeVar(parent)) => Some(parent),
        _ => None,
    });
    for parent in parents {
        if !matches!(scene.relation(&scene.range(parent, &statement.search_path)), Known::New) {
            return None;
        }
    }
    let mut locks = Vec::new();
    for referenced in referenced(create) {
        let referenced = scene.range(referenced, &statement.search_path);
        let itself = range.relname == referenced.name.as_str();
        match scene.relation(&referenced) {
            Known::New => {}
            _ if itself => {}
            Known::Missing => return Outcome::finding(unknown_relation(statement, &referenced)),
            _ => locks.push(LockTaken {
                relation: referenced,
                mode: LockMode::ShareRowExclusive,
                role: LockRole::Referenced,
            }),
        }
    }
    locks.sort();
    locks.dedup();
    let refers = !locks.is_empty();
    let title = format!("create table {}", range.relname);
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = if refers {
        "the new table is empty, so nothing is checked; the tables it refers to are locked against writes for a moment"
    } else {
        "nobody uses it yet"
    }
    .into();
    step.undo = None::<Undo>;
    Outcome::step(step)
}

/// The tables that foreign keys in a CREATE TABLE refer to.
fn referenced(create: &node::CreateStmt) -> Vec<&node::RangeVar> {
    fn of(item: &node::Node) -> Vec<&node::RangeVar> {
        match &item.node {
            Some(NodeEnum::Constraint(constraint)) => constraint.pktable.iter().collect(),
            Some(NodeEnum::ColumnDef(column)) => column.constraints.iter().flat_map(of).collect(),
            _ => Vec::new(),
        }
    }
    create.table_elts.iter().chain(&create.constraints).flat_map(of).collect()
}
