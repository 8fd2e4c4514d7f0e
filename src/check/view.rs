//! How the rules look at the facts.

use super::Seen;
use crate::{
    facts::{Facts, ServerFacts, Table, TableKind},
    pg::name::{Ident, TableName},
    plan::{Plan, SchemaFrom},
};

/// The selected tables of a server.
pub(super) fn selected<'a>(plan: &'a Plan, server: &'a ServerFacts) -> impl Iterator<Item = &'a Table> {
    server.tables.iter().filter(|table| is_selected(plan, &table.name))
}

/// Whether the plan's patterns take a table in.
pub(super) fn is_selected(plan: &Plan, table: &TableName) -> bool {
    plan.replicate.tables.selects(table)
}

/// The selected tables of a server that hold rows of their own.
pub(super) fn with_rows<'a>(plan: &'a Plan, server: &'a ServerFacts) -> impl Iterator<Item = &'a Table> {
    selected(plan, server).filter(|table| table.kind == TableKind::Plain)
}

/// The selected tables of blue that have the same shape on green.
pub(super) fn unmapped<'a>(plan: &'a Plan, blue: &'a ServerFacts) -> impl Iterator<Item = &'a Table> {
    blue.tables.iter().filter(|table| plan.replicate.writes_unmapped(&table.name))
}

/// The tables of green that we write to.
pub(super) fn written<'a>(plan: &'a Plan, green: &'a ServerFacts) -> impl Iterator<Item = &'a Table> {
    green.tables.iter().filter(|table| plan.replicate.writes(&table.name))
}

/// Blue's selected tables for which a predicate holds, each with the same words.
pub(super) fn blue_tables(
    plan: &Plan,
    facts: &Facts,
    what: &str,
    holds: impl Fn(&ServerFacts, &Table) -> bool,
) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    selected(plan, blue)
        .filter(|table| holds(blue, table))
        .map(|table| Seen::blue(table.name.plain(), what))
        .collect()
}

/// Whether an attempt of ours is on: then what is there under our names, and green's rows, are ours.
pub(super) fn attempt_is_on(facts: &Facts) -> bool {
    facts.green.as_ref().and_then(|green| green.ours.as_ref()).is_some_and(|ours| ours.attempt.is_some())
}

/// Whether green's schema is still to be cloned from blue.
pub(super) fn clone_is_to_come(plan: &Plan, facts: &Facts) -> bool {
    plan.schema.from == SchemaFrom::Blue && !attempt_is_on(facts)
}

/// Both servers, when both were looked at.
pub(super) fn both(facts: &Facts) -> Option<(&ServerFacts, &ServerFacts)> {
    facts.blue.as_ref().zip(facts.green.as_ref())
}

/// Whether green has its tables already, so that its shape can be judged: neither a clone nor SQL is still to come.
pub(super) fn green_has_its_shape(plan: &Plan, facts: &Facts) -> bool {
    attempt_is_on(facts) || (plan.schema.from == SchemaFrom::None && plan.schema.sql.is_empty())
}

/// A setting as a number; `None` when it was not read or is not one.
pub(super) fn number(server: &ServerFacts, setting: &str) -> Option<i64> {
    server.settings.get(setting)?.parse().ok()
}

/// A size setting in bytes as `current_setting` writes it (`1GB`, `64kB`, `0`); `Some(None)` for -1, no limit.
pub(super) fn size_setting(server: &ServerFacts, setting: &str) -> Option<Option<u64>> {
    let text = server.settings.get(setting)?;
    if text == "-1" {
        return Some(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor: u64 = match &text[digits..] {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor).map(Some)
}

/// Names in a row, for people.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a Ident>) -> String {
    names.into_iter().map(Ident::as_str).collect::<Vec<_>>().join(", ")
}
