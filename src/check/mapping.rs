//! Whether the plan's mappings fit what blue and green have.

use super::{Seen, view};
use crate::{
    facts::Facts,
    finding::{Finding, Place, Severity},
    mapping::{BlueTable, GreenTable, Mapping, Problem},
    plan::Plan,
};

/// The plan's mappings of tables that blue has.
pub fn mappings(plan: &Plan, facts: &Facts) -> Vec<Mapping> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let of = |(name, map): (_, &crate::mapping::TableMap)| {
        Some(Mapping { map: map.clone(), blue: BlueTable::of(blue.table(name)?) })
    };
    plan.replicate.map.iter().filter_map(of).collect()
}

/// What does not fit in a mapping, by the catalogs alone.
fn problems(plan: &Plan, facts: &Facts, mapping: &Mapping) -> Vec<Problem> {
    let Some(green) = facts.green.as_ref().filter(|_| view::green_has_its_shape(plan, facts)) else {
        return mapping.problems_on_blue();
    };
    // While an attempt is on, green's keys may be away until the rows are there.
    if view::attempt_is_on(facts) {
        return mapping.problems_on_blue();
    }
    let target = green.table(&mapping.map.target(&mapping.blue.name));
    mapping.fit(&target.map(GreenTable::of).unwrap_or_default()).err().unwrap_or_default()
}

fn field(mapping: &Mapping, part: &str) -> String {
    let table = format!("replicate.map.{}", mapping.blue.name.plain());
    if part.is_empty() { table } else { format!("{table}.{part}") }
}

pub(super) fn unfit(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for (name, map) in &plan.replicate.map {
        let field = format!("replicate.map.{}", name.plain());
        if blue.table(name).is_none() {
            seen.push(Seen::plan(field.as_str(), format!("blue has no table {}", name.plain())));
        }
        let target = map.target(name);
        if target != *name && blue.table(&target).is_some() && plan.replicate.writes_unmapped(&target) {
            let what = format!(
                "{0} becomes {1}, and blue's {1} is carried there too: merging tables is not built yet",
                name.plain(),
                target.plain()
            );
            seen.push(Seen::plan(format!("{field}.to"), what));
        }
    }
    for mapping in mappings(plan, facts) {
        for Problem { field: part, what, help } in problems(plan, facts, &mapping) {
            seen.push(Seen::plan(field(&mapping, &part), format!("{what} ({help})")));
        }
    }
    seen
}

pub(super) fn unproved(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    if plan.replicate.map.is_empty() || view::green_has_its_shape(plan, facts) {
        return Vec::new();
    }
    vec![Seen::plan(
        "replicate.map",
        "green has not its shape yet, so nobody knows whether it takes what these expressions give",
    )]
}

pub(super) fn revocation_key(plan: &Plan, _: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (at, rule) in plan.revocations.iter().enumerate() {
        let Some(map) = plan.replicate.map.get(&rule.table) else { continue };
        for key in rule.key.iter().filter(|key| !map.carries_as_is(key)) {
            let what = format!(
                "{} of {} is not on green as it is, and a rule's key must be: rules over mapped keys are not built yet",
                key.as_str(),
                rule.table.plain()
            );
            seen.push(Seen::plan(format!("revocations[{at}].key"), what));
        }
    }
    seen
}

/// The mappings that fit by the catalogs, for green's planner to judge.
pub fn that_fit(plan: &Plan, facts: &Facts) -> Vec<Mapping> {
    if !view::green_has_its_shape(plan, facts) || view::attempt_is_on(facts) {
        return Vec::new();
    }
    mappings(plan, facts).into_iter().filter(|mapping| problems(plan, facts, mapping).is_empty()).collect()
}

/// What green's planner says of one, as a finding.
pub fn refused(mapping: &Mapping, problem: Problem) -> Finding {
    Finding {
        code: "MAPPING_REFUSED".into(),
        severity: Severity::Blocking,
        place: Place::Plan { field: field(mapping, &problem.field) },
        what: problem.what,
        help: problem.help,
    }
}
