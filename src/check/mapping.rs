//! Whether the plan's mappings fit what blue and green have.

use super::{Seen, view};
use crate::{
    facts::Facts,
    finding::{Finding, Place, Severity},
    mapping::{BlueTable, Fitted, GreenTable, Joining, Mapping, Problem, TableMap, TableMaps, lost_in_split},
    plan::Plan,
};

/// The plan's mappings of tables that blue has.
pub fn mappings(plan: &Plan, facts: &Facts) -> Vec<Mapping> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut mappings = Vec::new();
    for (name, maps) in &plan.replicate.map {
        let Some(table) = blue.table(name) else { continue };
        let of = |(part, map): (_, &TableMap)| Mapping { map: map.clone(), part, blue: BlueTable::of(table) };
        mappings.extend(maps.parts().map(of));
    }
    mappings
}

/// How a mapping fits, by the catalogs alone; `None` while green's shape is not known.
fn fit(plan: &Plan, facts: &Facts, mapping: &Mapping) -> Option<Result<Fitted, Vec<Problem>>> {
    // While an attempt is on, green's keys may be away until the rows are there.
    let green = facts
        .green
        .as_ref()
        .filter(|_| view::green_has_its_shape(plan, facts) && !view::attempt_is_on(facts))?;
    let target = green.table(&mapping.map.target(&mapping.blue.name));
    Some(mapping.fit(&target.map(GreenTable::of).unwrap_or_default()))
}

/// What does not fit in a mapping, by the catalogs alone.
fn problems(plan: &Plan, facts: &Facts, mapping: &Mapping) -> Vec<Problem> {
    match fit(plan, facts, mapping) {
        Some(fitted) => fitted.err().unwrap_or_default(),
        None => mapping.problems_on_blue(),
    }
}

/// What all parts of a split lose together.
fn lost(plan: &Plan, facts: &Facts, parts: &[Mapping]) -> Vec<Problem> {
    let fitted = |mapping: &Mapping| Some((mapping.clone(), fit(plan, facts, mapping)?.ok()?));
    let fitted: Option<Vec<_>> = parts.iter().map(fitted).collect();
    fitted.map(|parts| lost_in_split(&parts)).unwrap_or_default()
}

fn field(mapping: &Mapping, part: &str) -> String {
    let entry = mapping.part.map_or_else(String::new, |part| format!("[{part}]"));
    let table = format!("replicate.map.{}{entry}", mapping.blue.name.plain());
    if part.is_empty() { table } else { format!("{table}.{part}") }
}

pub(super) fn unfit(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for name in plan.replicate.map.keys().filter(|name| blue.table(name).is_none()) {
        let field = format!("replicate.map.{}", name.plain());
        seen.push(Seen::plan(field, format!("blue has no table {}", name.plain())));
    }
    for (name, map) in plan.replicate.maps() {
        let target = map.target(name);
        if target != *name && blue.table(&target).is_some() && plan.replicate.writes_unmapped(&target) {
            let what = format!(
                "{0} becomes {1}, and blue's {1} is carried there too, unmapped (to merge the two, map {1} as well: `{1}: {{ merge: rows }}`)",
                name.plain(),
                target.plain()
            );
            seen.push(Seen::plan(format!("replicate.map.{}.to", name.plain()), what));
        }
    }
    let mappings = mappings(plan, facts);
    for parts in mappings.chunk_by(|one, next| one.blue.name == next.blue.name) {
        for mapping in parts {
            for Problem { field: part, what, help } in problems(plan, facts, mapping) {
                seen.push(Seen::plan(field(mapping, &part), format!("{what} ({help})")));
            }
        }
        for Problem { what, help, .. } in lost(plan, facts, parts) {
            let field = format!("replicate.map.{}", parts[0].blue.name.plain());
            seen.push(Seen::plan(field, format!("{what} ({help})")));
        }
    }
    seen.extend(unfit_joins(plan, facts));
    seen
}

/// The plan's joins of tables that blue has.
pub fn joinings(plan: &Plan, facts: &Facts) -> Vec<Joining> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    Joining::all(&plan.name, &plan.replicate.join, blue)
}

fn field_of_join(joining: &Joining, part: &str) -> String {
    let join = format!("replicate.join.{}", joining.green.plain());
    if part.is_empty() { join } else { format!("{join}.{part}") }
}

fn unfit_joins(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for joining in joinings(plan, facts) {
        for name in joining.join.from.keys().filter(|name| blue.table(name).is_none()) {
            let field = field_of_join(&joining, &format!("from.{}", name.plain()));
            seen.push(Seen::plan(field, format!("blue has no table {}", name.plain())));
        }
        if blue.table(&joining.green).is_some() && plan.replicate.writes_unmapped(&joining.green) {
            let what = format!(
                "blue's {0} is carried to {0}, and a join makes all rows there (let the query read it, or map it to another table)",
                joining.green.plain()
            );
            seen.push(Seen::plan(field_of_join(&joining, ""), what));
        }
        for Problem { field, what, help } in joining.problems_on_blue() {
            seen.push(Seen::plan(field_of_join(&joining, &field), format!("{what} ({help})")));
        }
    }
    seen
}

/// The joins that green can be asked about.
pub fn joinings_that_fit(plan: &Plan, facts: &Facts) -> Vec<Joining> {
    if !view::green_has_its_shape(plan, facts)
        || view::attempt_is_on(facts)
        || !unfit_joins(plan, facts).is_empty()
    {
        return Vec::new();
    }
    joinings(plan, facts)
}

/// What green says of a join, as a finding.
pub fn join_refused(joining: &Joining, problem: Problem) -> Finding {
    Finding {
        code: "MAPPING_REFUSED".into(),
        severity: Severity::Blocking,
        place: Place::Plan { field: field_of_join(joining, &problem.field) },
        what: problem.what,
        help: problem.help,
    }
}

pub(super) fn unproved(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let (map, join) = (&plan.replicate.map, &plan.replicate.join);
    if (map.is_empty() && join.is_empty()) || view::green_has_its_shape(plan, facts) {
        return Vec::new();
    }
    vec![Seen::plan(
        if map.is_empty() { "replicate.join" } else { "replicate.map" },
        "green has not its shape yet, so nobody knows whether it takes what these expressions give",
    )]
}

pub(super) fn revocation_key(plan: &Plan, _: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (at, rule) in plan.revocations.iter().enumerate() {
        if let Some(green) = plan.replicate.joined_into(&rule.table) {
            let what = format!(
                "{} is joined with others into {} on green: rules over joined tables are not built yet",
                rule.table.plain(),
                green.plain()
            );
            seen.push(Seen::plan(format!("revocations[{at}].table"), what));
        }
        let effect = [&rule.replay.delete, &rule.replay.update.as_ref().map(|update| update.table.clone())];
        for green in effect.into_iter().flatten().filter(|green| plan.replicate.join.contains_key(green)) {
            let what = format!(
                "it acts upon {}, each row of which may be made anew from blue's: rules over joined tables are not built yet",
                green.plain()
            );
            seen.push(Seen::plan(format!("revocations[{at}].replay"), what));
        }
        let Some(maps) = plan.replicate.map.get(&rule.table) else { continue };
        let is_merged = plan.replicate.merged().values().any(|tables| tables.contains(&&rule.table));
        let TableMaps::One(map) = maps else {
            let what = format!(
                "{} is split on green: rules over split tables are not built yet",
                rule.table.plain()
            );
            seen.push(Seen::plan(format!("revocations[{at}].table"), what));
            continue;
        };
        if is_merged {
            let what = format!(
                "{} is merged with others on green: rules over merged tables are not built yet",
                rule.table.plain()
            );
            seen.push(Seen::plan(format!("revocations[{at}].table"), what));
        }
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
