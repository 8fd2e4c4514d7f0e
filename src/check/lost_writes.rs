//! What a copy that does not follow loses.

use super::Seen;
use crate::{
    facts::{Facts, WritesSeen, per_minute},
    plan::Plan,
};

/// So many tables are named; `migrate plan` lists all.
const NAMED: usize = 3;

pub(super) fn not_carried(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    if !plan.is_snapshot() || facts.blue.is_none() {
        return Vec::new();
    }
    let carried = match plan.revocations.is_empty() {
        true => "",
        false => ", except what the revocation rules carry",
    };
    let measured = match &facts.writes {
        Some(seen) => in_words(seen),
        None => "; how much that is, is not known".into(),
    };
    let what = format!("what blue writes after the copy's moment is lost{carried}{measured}");
    vec![Seen::plan("replicate.mode", what)]
}

fn in_words(seen: &WritesSeen) -> String {
    let mut busy: Vec<_> = seen.measured.iter().filter(|table| table.writes.total() > 0).collect();
    busy.sort_by_key(|table| std::cmp::Reverse(table.writes.total()));
    let rate = |count: u64| format!("{:.0}", per_minute(count, seen.measured_ms).ceil());
    let mut named: Vec<String> = busy
        .iter()
        .take(NAMED)
        .map(|table| format!("{} a minute on table {}", rate(table.writes.total()), table.table.plain()))
        .collect();
    if busy.len() > NAMED {
        let rest = busy[NAMED..].iter().map(|table| table.writes.total()).sum();
        named.push(format!("{} on {} others", rate(rest), busy.len() - NAMED));
    }
    match named.is_empty() {
        true => format!(": no row was written in the {} s that we looked", seen.measured_ms / 1000),
        false => format!(": rows as measured over {} s, {}", seen.measured_ms / 1000, named.join(", ")),
    }
}
