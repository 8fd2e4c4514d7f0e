//! Indexes of tables in use, as they are after the statements so far.

use super::{Scene, changes::Changes};
use crate::{
    ddl::{
        parse::{self, NodeEnum, node},
        types::SqlType,
    },
    facts::{ConstraintKind, Index},
    pg::name::{Ident, TableName},
};

impl Scene<'_> {
    /// The key columns of an index, seen or made here; `None` for an expression among them.
    pub fn index_columns(&self, table: &TableName, index: &str) -> Option<Vec<String>> {
        let made = self.changes.get(table).and_then(|changes| changes.indexes.get(index));
        if let Some(columns) = made {
            return columns.iter().cloned().collect();
        }
        let seen = self.live_table(table)?.indexes.iter().find(|known| known.name.as_str() == index)?;
        Some(seen.columns.iter().map(|column| column.as_str().to_owned()).collect())
    }

    /// Whether an index, seen or made here, has the column.
    pub fn is_indexed(&self, table: &TableName, column: &str) -> bool {
        let live = self.live_table(table).into_iter().flat_map(|table| &table.indexes);
        let seen = live
            .filter(|index| {
                !self.dropped.contains(&TableName { schema: table.schema.clone(), name: index.name.clone() })
            })
            .any(|index| {
                index.columns.iter().any(|known| known.as_str() == column)
                    || mentions(index_tail(&index.definition), column)
            });
        let made = self.changes.get(table).into_iter().flat_map(|changes| changes.indexes.values());
        seen || made.flatten().any(|known| known.as_deref().is_none_or(|known| known == column))
    }

    /// Whether an expression or predicate of an index, seen or made here, may have the column: the server then builds it anew with
    /// every change of the column's type, also with one that leaves the rows as they are (measured on 15 to 18).
    pub fn is_in_expression(&self, table: &TableName, column: &str) -> bool {
        let seen = self.live_table(table).into_iter().flat_map(|table| &table.indexes);
        let made = self.changes.get(table).into_iter().flat_map(|changes| changes.indexes.values());
        seen.filter(|index| !index.plain && !self.has_lost(table, &index.name))
            .any(|index| mentions(index_tail(&index.definition), column))
            || made.flatten().any(Option::is_none)
    }

    /// Whether an index is what it was when it was seen: it, its constraint and its columns are there and the same.
    pub fn is_as_made(&self, table: &TableName, index: &Index) -> bool {
        let is_seen = |constraint: &Ident| {
            self.constraint(table, constraint.as_str()).is_some_and(|now| now.definition.is_some())
        };
        let is_kept = index.constraint.as_ref().is_none_or(is_seen) && !self.has_lost(table, &index.name);
        let is_same = |column: &Ident| {
            let seen =
                self.live_column(table, column.as_str()).and_then(|seen| SqlType::parse(&seen.type_name));
            self.has_column(table, column.as_str()) == Some(true)
                && self.column_type(table, column.as_str()) == seen
        };
        is_kept && index.columns.iter().all(is_same)
    }

    /// Whether an index made here is known not to have the column, wherever in it.
    pub(super) fn is_index_without(&self, table: &TableName, index: &str, column: &str) -> bool {
        let name = TableName { schema: table.schema.clone(), name: Ident::new(index) };
        self.made_index_tree(&name).is_some_and(|tree| !index_has_column(tree, column))
    }

    /// The keys made here: whether it is the primary one, and its columns.
    pub fn made_keys(&self, table: &TableName) -> Vec<(bool, Vec<String>)> {
        let keys = self.constraints(table).into_iter().filter(|(_, now)| !now.key.is_empty());
        keys.map(|(_, now)| (now.kind == ConstraintKind::PrimaryKey, now.key)).collect()
    }

    /// With a column fall the constraints and indexes that have it, wherever in them.
    pub(super) fn forget_parts_with(&mut self, table: &TableName, column: &str) {
        let own = |name: &str| TableName { schema: table.schema.clone(), name: Ident::new(name) };
        let trees = self.constraint_trees(table);
        let constraints =
            trees.into_iter().filter(|(_, tree)| has_column(tree, column)).map(|(name, _)| name);
        let trees = self.index_trees(table).into_iter().filter(|tree| index_has_column(tree, column));
        let indexes: Vec<TableName> = trees.map(|tree| own(&tree.idxname)).collect();
        for name in constraints.collect::<Vec<String>>() {
            self.changes.entry(table.clone()).or_default().constraints.insert(name.clone(), None);
            self.forget_constraint((table.clone(), name));
        }
        self.dropped.extend(indexes);
        let changes = self.changes.entry(table.clone()).or_default();
        let has = |known: &Option<String>| known.as_deref() == Some(column);
        changes.indexes.retain(|_, columns| !columns.iter().any(has));
    }

    /// What was done to the table of an index that was made here.
    pub(super) fn changes_with_index(&mut self, index: &TableName) -> Option<&mut Changes> {
        self.changes.get_mut(self.made_indexes.get(index)?)
    }
}

pub(super) fn has_column(constraint: &node::Constraint, column: &str) -> bool {
    let lists = [&constraint.keys, &constraint.including, &constraint.fk_attrs];
    let expression = constraint.raw_expr.as_ref().and_then(|expression| expression.node.as_ref());
    lists.into_iter().flat_map(|list| parse::strings(list)).any(|name| name == column)
        || expression.is_some_and(|tree| parse::columns(tree).iter().any(|name| name == column))
}

fn index_has_column(tree: &node::IndexStmt, column: &str) -> bool {
    let mut elements = tree.index_params.iter().chain(&tree.index_including_params);
    elements.any(|item| matches!(&item.node, Some(NodeEnum::IndexElem(element)) if element.name == column))
        || parse::columns(&NodeEnum::IndexStmt(Box::new(tree.clone()))).iter().any(|name| name == column)
}

/// Whether a definition has the column's name as a word; it may be another thing's.
fn mentions(definition: &str, column: &str) -> bool {
    let quoted = Ident::new(column).to_string();
    definition
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '"')))
        .any(|word| word == column || word == quoted)
}

/// What comes after the table's name in an index definition.
fn index_tail(definition: &str) -> &str {
    definition.split_once(" USING ").map_or(definition, |(_, tail)| tail)
}
