//! Which database is which, and whether our names are free.

use super::{Seen, view};
use crate::{facts::Facts, plan::Plan};

pub(super) fn same_database(_: &Plan, facts: &Facts) -> Vec<Seen> {
    if !facts.same_database {
        return Vec::new();
    }
    vec![Seen::plan(
        "green.url",
        "blue and green are one and the same database (a lock taken on one is seen on the other)",
    )]
}

pub(super) fn swapped(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    let side = |server: Option<&crate::facts::ServerFacts>| server?.ours.as_ref()?.side.clone();
    if side(facts.blue.as_ref()).as_deref() == Some("green") {
        seen.push(Seen::plan("blue.url", "this database says that it is a migration's green"));
    }
    if side(facts.green.as_ref()).as_deref() == Some("blue") {
        seen.push(Seen::plan("green.url", "this database says that it is a migration's blue"));
    }
    let Some((blue, green)) = view::both(facts) else { return seen };
    let green_has_rows = view::with_rows(plan, green).any(|table| table.has_rows == Some(true));
    let blue_is_empty = view::with_rows(plan, blue).all(|table| table.has_rows == Some(false));
    if seen.is_empty() && green_has_rows && blue_is_empty && !view::attempt_is_on(facts) {
        seen.push(Seen::plan("green.url", "green has rows in the selected tables, and blue has none"));
    }
    seen
}

pub(super) fn taken(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let mut seen = Vec::new();
    let sides = [
        (facts.blue.as_ref(), Seen::blue as fn(String, String) -> Seen),
        (facts.green.as_ref(), Seen::green),
    ];
    for (server, side) in sides {
        let Some(ours) = server.and_then(|server| server.ours.as_ref()) else { continue };
        match &ours.plan {
            None => seen.push(side(
                "schema migrate".into(),
                "a schema of this name is there that is not ours".into(),
            )),
            Some(other) if *other != plan.name => {
                seen.push(side("schema migrate".into(), format!("it belongs to the plan `{other}`")));
            }
            Some(_) => {}
        }
    }
    if view::attempt_is_on(facts) {
        return seen;
    }
    let Some(blue) = &facts.blue else { return seen };
    for slot in blue.slots.iter().filter(|slot| facts.names.slots.contains(&slot.name)) {
        seen.push(Seen::blue(
            format!("slot {}", slot.name),
            "we would use this name, and no attempt of ours is on",
        ));
    }
    for publication in blue.publications.iter().filter(|name| facts.names.publications.contains(name)) {
        let what = "we would use this name, and no attempt of ours is on";
        seen.push(Seen::blue(format!("publication {publication}"), what));
    }
    seen
}

pub(super) fn slot_lost(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let lost = |status: &Option<String>| matches!(status.as_deref(), Some("lost" | "unreserved"));
    blue.slots
        .iter()
        .filter(|slot| facts.names.slots.contains(&slot.name) && lost(&slot.wal_status))
        .map(|slot| {
            let what = format!("its WAL is {}", slot.wal_status.as_deref().unwrap_or("gone"));
            Seen::blue(format!("slot {}", slot.name), what)
        })
        .collect()
}

pub(super) fn other_readers(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let ours = |name: &String| facts.names.slots.contains(name);
    blue.slots
        .iter()
        .filter(|slot| slot.database.as_ref() == Some(&blue.database) && !ours(&slot.name))
        .map(|slot| {
            Seen::blue(format!("slot {}", slot.name), "its reader will get nothing more after the switch")
        })
        .collect()
}

pub(super) fn subscriptions(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let what = "its rows pass by the fence, which replicated writes do not meet";
    blue.subscriptions.iter().map(|name| Seen::blue(format!("subscription {name}"), what)).collect()
}
