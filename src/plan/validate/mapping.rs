//! What is wrong with the mappings, seen from the plan alone.

use super::{Notes, OUR_SCHEMA};
use crate::mapping::{Expression, Merge, TableMap};
use crate::pg::name::TableName;
use crate::plan::Replicate;
use std::collections::BTreeSet;

pub(super) fn mappings(replicate: &Replicate, notes: &mut Notes) {
    let merged = replicate.merged();
    for (table, maps) in &replicate.map {
        let field = format!("replicate.map.{}", table.plain());
        if !replicate.tables.selects(table) {
            let what = format!("{} is mapped, and `replicate.tables` leaves it out", table.plain());
            notes.block("CONTRADICTION", field.as_str(), what, "include the table, or remove its map");
        }
        if maps.iter().next().is_none() {
            let what = format!("{} is split into nothing", table.plain());
            notes.block(
                "BAD_VALUE",
                field.as_str(),
                what,
                "name the tables of green it becomes, or exclude it",
            );
        }
        let mut targets = BTreeSet::new();
        for (part, map) in maps.parts() {
            let field = part.map_or_else(|| field.clone(), |part| format!("{field}[{part}]"));
            let target = map.target(table);
            if !targets.insert(target.clone()) {
                let what = format!("two parts of {} become {}", table.plain(), target.plain());
                let help =
                    "give each part a table of its own, or make it one part with `or` between the conditions";
                notes.block("CONTRADICTION", format!("{field}.to"), what, help);
            }
            one(&field, &target, map, notes);
            merge(&field, table, map, merged.get(&target).map_or(&[], Vec::as_slice), notes);
        }
    }
}

/// `kin` are the tables of blue that become the same one of green, this one among them; none when it is alone.
fn merge(field: &str, table: &TableName, map: &TableMap, kin: &[&TableName], notes: &mut Notes) {
    let others: Vec<String> =
        kin.iter().filter(|other| **other != table).map(|other| other.plain()).collect();
    let target = map.target(table).plain();
    match map.merge {
        Some(Merge::Join) => {
            let what = format!(
                "how rows of {} and others are one row of {target} takes a query to say",
                table.plain()
            );
            let help = format!("write it in `replicate.join`, under `{target}`, and remove this map");
            notes.block("CONTRADICTION", format!("{field}.merge"), what, help);
        }
        Some(Merge::Rows) if others.is_empty() => {
            let what = format!("{} is to be merged, and no other table becomes {target}", table.plain());
            notes.block(
                "CONTRADICTION",
                format!("{field}.merge"),
                what,
                "map the others `to` it, or remove `merge`",
            );
        }
        None if !others.is_empty() => {
            let what = format!(
                "{} becomes {target}, and so does {}, and it is not said how",
                table.plain(),
                others.join(", ")
            );
            let help = "say `merge: rows` in each when their rows stand side by side and never share a key of green's";
            notes.block("CONTRADICTION", format!("{field}.to"), what, help);
        }
        Some(Merge::Rows) | None => {}
    }
}

fn one(field: &str, target: &TableName, map: &TableMap, notes: &mut Notes) {
    if target.schema.as_str() == OUR_SCHEMA || target.schema.as_str().starts_with("pg_") {
        let what = format!("schema `{}` is never replicated into", target.schema.as_str());
        notes.block("RESERVED_SCHEMA", format!("{field}.to"), what, "choose another schema");
    }
    let given = map.columns.iter().map(|(name, text)| (format!("columns.{}", name.as_str()), text));
    let condition = map.condition.iter().map(|text| ("where".to_owned(), text));
    for (part, text) in given.chain(condition) {
        if let Err(unreadable) = Expression::read(text) {
            let help = "write one SQL expression over blue's columns";
            notes.block("BAD_EXPRESSION", format!("{field}.{part}"), unreadable.what, help);
        }
    }
}
