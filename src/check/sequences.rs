//! Sequences that have not much left.

use super::Seen;
use crate::{
    facts::{Facts, Sequence, ServerFacts},
    plan::Plan,
};

/// The part of its range after which a sequence is worth a warning, in percent.
const WORN_PERCENT: i128 = 80;

/// The last value a sequence may give: its own end, or that of the column it fills, whichever comes first.
fn end(server: &ServerFacts, sequence: &Sequence) -> i128 {
    let column = sequence.owner.as_ref().and_then(|(table, column)| {
        server.table(table)?.columns.iter().find(|candidate| candidate.name == *column)
    });
    let (least, most) = match column.map(|column| column.type_name.as_str()) {
        Some("smallint") => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Some("integer") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    if sequence.increment < 0 { least.max(sequence.min.into()) } else { most.min(sequence.max.into()) }
}

/// Steps left before the end, after the gap the cutover adds.
fn steps_left(server: &ServerFacts, sequence: &Sequence, gap: u32) -> Option<i128> {
    let last = i128::from(sequence.last_value?);
    let left = (end(server, sequence) - last) / i128::from(sequence.increment.max(-i64::MAX));
    Some(left - i128::from(gap))
}

pub(super) fn exhausted(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    blue.sequences
        .iter()
        .filter(|sequence| !sequence.cycle)
        .filter(|sequence| steps_left(blue, sequence, plan.cutover.sequence_gap).is_some_and(|left| left < 0))
        .map(|sequence| {
            let what = format!(
                "at {} of {}, less than the gap of {} is left",
                sequence.last_value.unwrap_or_default(),
                end(blue, sequence),
                plan.cutover.sequence_gap
            );
            Seen::blue(sequence.name.plain(), what)
        })
        .collect()
}

pub(super) fn worn(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for sequence in blue.sequences.iter().filter(|sequence| !sequence.cycle) {
        let Some(last) = sequence.last_value else { continue };
        let first = i128::from(if sequence.increment < 0 { sequence.max } else { sequence.min });
        let range = (end(blue, sequence) - first).abs().max(1);
        let used_percent = (i128::from(last) - first).abs() * 100 / range;
        let left = steps_left(blue, sequence, plan.cutover.sequence_gap);
        if used_percent >= WORN_PERCENT && left.is_some_and(|left| left >= 0) {
            seen.push(Seen::blue(sequence.name.plain(), format!("{used_percent} % of its values are used")));
        }
    }
    seen
}
