//! Relations that decoding does not carry, or carries in a way that needs care.

use super::{Seen, view};
use crate::{
    facts::{ConstraintKind, Facts, Persistence, Table, TableKind},
    plan::Plan,
};

pub(super) fn unlogged(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let what = "it is unlogged: its rows are not in WAL and are never carried";
    view::blue_tables(plan, facts, what, |_, table| table.persistence == Persistence::Unlogged)
}

pub(super) fn foreign(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let what = "it is a foreign table: its rows are elsewhere";
    view::blue_tables(plan, facts, what, |_, table| table.kind == TableKind::Foreign)
}

pub(super) fn large_objects(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = facts.blue.as_ref().filter(|blue| blue.large_objects > 0) else { return Vec::new() };
    vec![Seen::blue(
        "pg_largeobject",
        format!("there are {} large objects, which are never decoded", blue.large_objects),
    )]
}

pub(super) fn materialized_views(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    blue.materialized_views
        .iter()
        .map(|view| Seen::blue(view.plain(), "it is empty on green until refreshed"))
        .collect()
}

pub(super) fn family_split(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for child in &blue.tables {
        let Some(parent) = &child.parent else { continue };
        let (child_in, parent_in) = (view::is_selected(plan, &child.name), view::is_selected(plan, parent));
        if child_in != parent_in {
            let (inside, outside) = if child_in { (&child.name, parent) } else { (parent, &child.name) };
            let what = format!("it is selected, but {} of the same family is not", outside.plain());
            seen.push(Seen::blue(inside.plain(), what));
        }
    }
    seen
}

pub(super) fn inheritance(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let what = "it inherits the old way, where a parent's rows and its children's are easily mixed up";
    view::blue_tables(plan, facts, what, |_, table| table.parent.is_some() && !table.is_partition)
}

pub(super) fn reference_out(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    references(
        plan,
        facts,
        |from_in, to_in| from_in && !to_in,
        |from, constraint, to| {
            let what = format!(
                "{constraint} refers to {}, which is not selected: its rows will not be there",
                to.plain()
            );
            Seen::blue(from.name.plain(), what)
        },
    )
}

pub(super) fn reference_in(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    references(
        plan,
        facts,
        |from_in, to_in| !from_in && to_in,
        |from, constraint, to| {
            let what = format!(
                "it is not selected, though its {constraint} refers to {}: it will be empty",
                to.plain()
            );
            Seen::blue(from.name.plain(), what)
        },
    )
}

fn references(
    plan: &Plan,
    facts: &Facts,
    wanted: fn(bool, bool) -> bool,
    say: fn(&Table, &str, &crate::pg::name::TableName) -> Seen,
) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for table in &blue.tables {
        for constraint in table.constraints.iter().filter(|one| one.kind == ConstraintKind::ForeignKey) {
            let Some(other) = &constraint.references else { continue };
            if wanted(view::is_selected(plan, &table.name), view::is_selected(plan, other)) {
                seen.push(say(table, constraint.name.as_str(), other));
            }
        }
    }
    seen
}

pub(super) fn invalid_index(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for table in &blue.tables {
        for index in table.indexes.iter().filter(|index| !index.valid) {
            let what =
                format!("index {} is invalid: it costs every write and helps no query", index.name.as_str());
            seen.push(Seen::blue(table.name.plain(), what));
        }
    }
    seen
}
