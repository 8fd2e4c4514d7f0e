//! Which tables and sequences are carried, by the plan's patterns over blue's facts. Pure.

use crate::facts::{Generated, Persistence, Sequence, ServerFacts, Table, TableKind};
use crate::plan::Plan;
use crate::step::world::ReplicatedTable;

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
            green: table.name.clone(),
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

/// Sequences of selected tables, and free ones whose own name is selected.
pub fn sequences(plan: &Plan, blue: &ServerFacts) -> Vec<Sequence> {
    let selects = |sequence: &&Sequence| {
        let name = sequence.owner.as_ref().map_or(&sequence.name, |(table, _)| table);
        plan.replicate.tables.selects(name)
    };
    blue.sequences.iter().filter(selects).cloned().collect()
}
