//! Green's shape and emptiness.

use super::{Seen, view};
use crate::{
    facts::{Column, Facts, Generated, IdentityColumn, ServerFacts, Table},
    pg::name::TableName,
    plan::{Plan, SchemaFrom},
};
use std::collections::BTreeSet;

pub(super) fn not_empty(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(green) = facts.green.as_ref().filter(|_| !view::attempt_is_on(facts)) else { return Vec::new() };
    match plan.schema.from {
        SchemaFrom::None => view::written(plan, green)
            .filter(|table| table.has_rows == Some(true))
            .map(|table| Seen::green(table.name.plain(), "it has rows, and would be copied into"))
            .collect(),
        SchemaFrom::Blue => in_the_way(plan, facts.blue.as_ref(), green),
    }
}

/// Relations of green in the schemas a clone brings, extensions' and ours left out.
fn in_the_way(plan: &Plan, blue: Option<&ServerFacts>, green: &ServerFacts) -> Vec<Seen> {
    let mut schemas: BTreeSet<&str> = BTreeSet::new();
    if let Some(blue) = blue {
        schemas.extend(view::selected(plan, blue).map(|table| table.name.schema.as_str()));
    }
    let tables = green.tables.iter().map(|table| (&table.name, "table"));
    let views = green.views.iter().map(|name| (name, "view"));
    let materialized = green.materialized_views.iter().map(|name| (name, "materialized view"));
    // A table's own sequences come and go with it.
    let free = green.sequences.iter().filter(|sequence| sequence.owner.is_none());
    let sequences = free.map(|sequence| (&sequence.name, "sequence"));
    tables
        .chain(views)
        .chain(materialized)
        .chain(sequences)
        .filter(|(name, _)| schemas.contains(name.schema.as_str()))
        .map(|(name, kind)| Seen::green(name.plain(), format!("this {kind} is in the way of the clone")))
        .collect()
}

/// Selected tables of both sides that are not mapped, once green's shape is settled.
fn pairs<'a>(plan: &'a Plan, facts: &'a Facts) -> Vec<(&'a Table, Option<&'a Table>)> {
    let Some((blue, green)) = view::both(facts) else { return Vec::new() };
    if !view::green_has_its_shape(plan, facts) {
        return Vec::new();
    }
    view::unmapped(plan, blue).map(|table| (table, green.table(&table.name))).collect()
}

pub(super) fn table_missing(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    pairs(plan, facts)
        .into_iter()
        .filter(|(_, there)| there.is_none())
        .map(|(table, _)| Seen::green(table.name.plain(), "green does not have this table"))
        .collect()
}

/// Says something of each column of blue and its counterpart on green.
fn columns(
    plan: &Plan,
    facts: &Facts,
    judge: impl Fn(&Column, Option<&Column>) -> Option<String>,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (table, there) in pairs(plan, facts) {
        let Some(there) = there else { continue };
        for column in &table.columns {
            let other = there.columns.iter().find(|other| other.name == column.name);
            seen.extend(judge(column, other).map(|what| Seen::green(place(&table.name, column), what)));
        }
    }
    seen
}

fn place(table: &TableName, column: &Column) -> String {
    format!("{}.{}", table.plain(), column.name.as_str())
}

pub(super) fn column_missing(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    columns(plan, facts, |_, there| match there {
        None => Some("green's table does not have this column".into()),
        Some(_) => None,
    })
}

pub(super) fn column_type(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    columns(plan, facts, |column, there| {
        let there = there.filter(|there| there.type_name != column.type_name)?;
        Some(format!("it is {} on blue and {} on green", column.type_name, there.type_name))
    })
}

pub(super) fn generated_differs(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    columns(plan, facts, |column, there| {
        let there = there?;
        let plain = |column: &Column| column.generated == Generated::No;
        if plain(column) != plain(there) {
            let words = |column: &Column| if plain(column) { "a plain column" } else { "generated" };
            return Some(format!("it is {} on blue and {} on green", words(column), words(there)));
        }
        (!plain(column) && column.default != there.default)
            .then(|| "it is computed by another expression on green".to_owned())
    })
}

pub(super) fn column_extra(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (table, there) in pairs(plan, facts) {
        let Some(there) = there else { continue };
        let unknown =
            there.columns.iter().filter(|column| !table.columns.iter().any(|one| one.name == column.name));
        let must_be_given = |column: &&Column| {
            column.not_null
                && column.default.is_none()
                && column.generated == Generated::No
                && column.identity == IdentityColumn::No
        };
        seen.extend(unknown.filter(must_be_given).map(|column| {
            Seen::green(
                place(&there.name, column),
                "it is NOT NULL without a default, and blue has no such column",
            )
        }));
    }
    seen
}

pub(super) fn replica_triggers(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    // What will be cloned is looked at on blue; what is there, on green.
    let cloned = view::clone_is_to_come(plan, facts);
    let server = if cloned { &facts.blue } else { &facts.green };
    let Some(server) = server else { return Vec::new() };
    let looked_at: Vec<&Table> = match cloned {
        true => view::selected(plan, server).collect(),
        false => view::written(plan, server).collect(),
    };
    let mut seen = Vec::new();
    for table in looked_at.into_iter().filter(|table| !table.replica_triggers.is_empty()) {
        let what = format!("{} fires for replicated rows too", view::list(&table.replica_triggers));
        let side = if cloned { Seen::blue } else { Seen::green };
        seen.push(side(table.name.plain(), what));
    }
    seen
}
