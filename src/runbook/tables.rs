//! Which tables and sequences are carried, by the plan's patterns over blue's facts. Pure.

use crate::facts::{Generated, Persistence, Sequence, ServerFacts, Table, TableKind};
use crate::mapping::{BlueTable, Joining, Mapping, TableMap, stage_of};
use crate::pg::name::TableName;
use crate::plan::Plan;
use crate::step::world::ReplicatedTable;
use std::sync::Arc;

/// Tables with rows of their own that the plan selects: plain ones and leaves, in name order. One that is split is there for
/// each table of green that it becomes; of those that are merged, each is there. One that is joined becomes its copy on green.
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
        .flat_map(|table| {
            mappings(plan, table).into_iter().map(|mapping| ReplicatedTable {
                blue: table.name.clone(),
                green: match &mapping {
                    Some(mapping) => mapping.map.target(&table.name),
                    None if plan.replicate.joined_into(&table.name).is_some() => {
                        stage_of(&plan.name, &table.name)
                    }
                    None => table.name.clone(),
                },
                mapping: mapping.map(Arc::new),
                key: table.key().unwrap_or_default(),
                columns: table
                    .columns
                    .iter()
                    .filter(|column| column.generated == Generated::No)
                    .map(|column| column.name.clone())
                    .collect(),
            })
        })
        .collect()
}

/// What a table of blue is called on green: several names when it is split.
pub fn targets(plan: &Plan, blue: &TableName) -> Vec<TableName> {
    match (plan.replicate.map.get(blue), plan.replicate.joined_into(blue)) {
        (Some(maps), _) => maps.iter().map(|map| map.target(blue)).collect(),
        (None, Some(joined)) => vec![joined.clone()],
        (None, None) => vec![blue.clone()],
    }
}

/// The joins of tables that blue has.
pub fn joinings(plan: &Plan, blue: &ServerFacts) -> Vec<Joining> {
    Joining::all(&plan.name, &plan.replicate.join, blue)
}

/// How a table of blue is mapped: once for each part of a split, and one `None` when it is not.
fn mappings(plan: &Plan, table: &Table) -> Vec<Option<Mapping>> {
    let Some(maps) = plan.replicate.map.get(&table.name) else { return vec![None] };
    let mapping =
        |(part, map): (_, &TableMap)| Some(Mapping { map: map.clone(), part, blue: BlueTable::of(table) });
    maps.parts().map(mapping).collect()
}

/// Sequences of selected tables, and free ones whose own name is selected.
pub fn sequences(plan: &Plan, blue: &ServerFacts) -> Vec<Sequence> {
    let selects = |sequence: &&Sequence| {
        let name = sequence.owner.as_ref().map_or(&sequence.name, |(table, _)| table);
        plan.replicate.tables.selects(name)
    };
    blue.sequences.iter().filter(selects).cloned().collect()
}
