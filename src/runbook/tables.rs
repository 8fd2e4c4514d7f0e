//! Which tables and sequences are carried, by the plan's patterns over blue's facts. Pure.

use crate::facts::{Generated, Persistence, Sequence, ServerFacts, Table, TableKind};
use crate::mapping::{BlueTable, Mapping};
use crate::pg::name::TableName;
use crate::plan::Plan;
use crate::step::world::ReplicatedTable;
use std::sync::Arc;

/// Tables with rows of their own that the plan selects: plain ones and leaves, in name order.
///
/// One without anything that names a row has an empty key; `check` blocks it.
pub fn replicated(plan: &Plan, blue: &ServerFacts) -> Vec<ReplicatedTable> {
    let has_rows = |table: &&Table| {
        table.kind == TableKind::Plain
            && table.persistence == Persistence::Permanent
            && plan.replicate.tables.selects(&table.name)
    };
    blue.tables
        .iter()
        .filter(has_rows)
        .map(|table| ReplicatedTable {
            blue: table.name.clone(),
            green: target(plan, &table.name),
            mapping: mapping(plan, table).map(Arc::new),
            key: table.key().unwrap_or_default(),
            columns: table
                .columns
                .iter()
                .filter(|column| column.generated == Generated::No)
                .map(|column| column.name.clone())
                .collect(),
        })
        .collect()
}

/// What a table of blue is called on green.
pub fn target(plan: &Plan, blue: &TableName) -> TableName {
    plan.replicate.map.get(blue).map_or_else(|| blue.clone(), |map| map.target(blue))
}

/// How a table of blue is mapped, if it is.
pub fn mapping(plan: &Plan, table: &Table) -> Option<Mapping> {
    let map = plan.replicate.map.get(&table.name)?.clone();
    Some(Mapping { map, blue: BlueTable::of(table) })
}

/// Sequences of selected tables, and free ones whose own name is selected.
pub fn sequences(plan: &Plan, blue: &ServerFacts) -> Vec<Sequence> {
    let selects = |sequence: &&Sequence| {
        let name = sequence.owner.as_ref().map_or(&sequence.name, |(table, _)| table);
        plan.replicate.tables.selects(name)
    };
    blue.sequences.iter().filter(selects).cloned().collect()
}
