//! What our roles may do.

use super::{Seen, view};
use crate::{
    facts::{Facts, ServerFacts},
    plan::{Plan, SchemaFrom},
};

pub(super) fn replication(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let blue = facts.blue.as_ref().filter(|blue| !blue.role.superuser && !blue.role.replication);
    blue.map(|blue| role(blue, Seen::blue, "has not REPLICATION")).into_iter().collect()
}

pub(super) fn replica_role(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let green = facts.green.as_ref().filter(|green| !green.role.superuser && !green.role.replica_role);
    green.map(|green| role(green, Seen::green, "may not set session_replication_role")).into_iter().collect()
}

pub(super) fn create(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let lacks = |server: &&ServerFacts| {
        !server.role.superuser && !server.role.create_in_database && server.ours.is_none()
    };
    let what = "may not create a schema in this database";
    let green = facts.green.as_ref().filter(|_| plan.green.is_some());
    let blue = facts.blue.as_ref().filter(lacks).map(|blue| role(blue, Seen::blue, what));
    let green = green.filter(lacks).map(|green| role(green, Seen::green, what));
    blue.into_iter().chain(green).collect()
}

fn role(server: &ServerFacts, side: fn(String, String) -> Seen, what: &str) -> Seen {
    let name = format!("role {}", server.role.name);
    side(name.clone(), format!("{name} {what}"))
}

pub(super) fn owner(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let mut seen = view::blue_tables(plan, facts, "our role does not own it", |_, table| !table.owned_by_us);
    // A clone is ours by making it; tables that are there already must be.
    let green = facts.green.as_ref().filter(|_| plan.schema.from == SchemaFrom::None);
    if let Some(green) = green {
        let others = view::written(plan, green).filter(|table| !table.owned_by_us);
        seen.extend(others.map(|table| Seen::green(table.name.plain(), "our role does not own it")));
    }
    seen
}

pub(super) fn unreadable(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    view::blue_tables(plan, facts, "our role may not SELECT from it", |_, table| !table.readable)
}

pub(super) fn row_security(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let what = "row-level security hides rows from our role";
    let mut seen = view::blue_tables(plan, facts, what, |_, table| table.row_security);
    let Some(green) = &facts.green else { return seen };
    let hidden = view::written(plan, green).filter(|table| table.row_security);
    seen.extend(hidden.map(|table| Seen::green(table.name.plain(), what)));
    let sees_all = green.role.superuser || green.role.bypass_rls;
    if let Some(blue) = facts.blue.as_ref().filter(|_| view::clone_is_to_come(plan, facts) && !sees_all) {
        let forced = blue.forced_row_security.iter().filter(|table| view::is_selected(plan, table));
        let what = "the clone will have its policies bind the owner too, and so our role";
        seen.extend(forced.map(|table| Seen::green(table.plain(), what)));
    }
    seen
}

pub(super) fn role_missing(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = view::both(facts).filter(|_| view::clone_is_to_come(plan, facts)) else {
        return Vec::new();
    };
    let missing = blue.roles_named.iter().filter(|(role, _)| !green.roles.contains(role));
    missing
        .map(|(role, how)| {
            Seen::green(format!("role {role}"), format!("it {how} on blue, and green has no such role"))
        })
        .collect()
}

pub(super) fn event_trigger(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = view::both(facts).filter(|_| view::clone_is_to_come(plan, facts)) else {
        return Vec::new();
    };
    let fires = |name: &String| {
        Seen::blue(
            format!("event trigger {name}"),
            "the clone brings it to green, where it fires on the DDL that we run",
        )
    };
    let refused = |name: &String| {
        let what = format!("the clone brings it to green, where {} may not make it", green.role.name);
        Seen::blue(format!("event trigger {name}"), what)
    };
    blue.event_triggers
        .iter()
        .map(|name| if green.role.superuser { fires(name) } else { refused(name) })
        .collect()
}
