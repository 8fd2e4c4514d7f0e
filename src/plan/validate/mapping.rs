//! What is wrong with the mappings, seen from the plan alone.

use super::{Notes, OUR_SCHEMA};
use crate::mapping::Expression;
use crate::pg::name::TableName;
use crate::plan::Replicate;
use std::collections::BTreeMap;

pub(super) fn mappings(replicate: &Replicate, notes: &mut Notes) {
    let mut targets: BTreeMap<TableName, &TableName> = BTreeMap::new();
    for (table, map) in &replicate.map {
        let field = format!("replicate.map.{}", table.plain());
        if !replicate.tables.selects(table) {
            let what = format!("{} is mapped, and `replicate.tables` leaves it out", table.plain());
            notes.block("CONTRADICTION", field.as_str(), what, "include the table, or remove its map");
        }
        let target = map.target(table);
        if target.schema.as_str() == OUR_SCHEMA || target.schema.as_str().starts_with("pg_") {
            let what = format!("schema `{}` is never replicated into", target.schema.as_str());
            notes.block("RESERVED_SCHEMA", format!("{field}.to"), what, "choose another schema");
        }
        if let Some(other) = targets.insert(target.clone(), table) {
            let what = format!(
                "{} and {} both become {}, and merging tables is not built yet",
                other.plain(),
                table.plain(),
                target.plain()
            );
            notes.block("NOT_YET", format!("{field}.to"), what, "give each a table of its own on green");
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
}
