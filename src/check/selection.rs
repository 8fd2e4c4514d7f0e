//! Whether the plan's patterns take in what the operator meant.

use super::{Seen, view};
use crate::{
    facts::Facts,
    plan::{Plan, TableSelection},
};

/// The patterns of a list that match no table of blue.
fn unmatched(patterns: &[String], list: &str, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let alone = TableSelection { include: vec![pattern.clone()], exclude: Vec::new() };
        if !blue.tables.iter().any(|table| alone.selects(&table.name)) {
            let what = format!("`{pattern}` matches no table of blue");
            seen.push(Seen::plan(format!("replicate.tables.{list}[{at}]"), what));
        }
    }
    seen
}

pub(super) fn include_unmatched(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    unmatched(&plan.replicate.tables.include, "include", facts)
}

pub(super) fn exclude_unmatched(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    unmatched(&plan.replicate.tables.exclude, "exclude", facts)
}

pub(super) fn left_out(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    blue.tables
        .iter()
        .filter(|table| !view::is_selected(plan, &table.name))
        .map(|table| Seen::blue(table.name.plain(), "it is not selected: its rows stay on blue"))
        .collect()
}
