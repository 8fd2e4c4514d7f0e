//! Programs and services besides the two databases: who looked wrote down a state, and each bad state has its check.

use super::Seen;
use crate::{
    facts::{Facts, OutsideState},
    finding::Place,
    plan::Plan,
};

fn in_state(facts: &Facts, state: OutsideState, what: &str) -> Vec<Seen> {
    facts
        .outside
        .iter()
        .filter(|fact| fact.state == state)
        .map(|fact| Seen {
            place: Place::Outside { object: fact.object.clone() },
            what: if fact.detail.is_empty() { what.to_owned() } else { format!("{what}: {}", fact.detail) },
        })
        .collect()
}

pub(super) fn pg_dump_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgDumpMissing, "no pg_dump was found")
}

pub(super) fn pg_dump_too_old(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgDumpTooOld, "this pg_dump is older than blue and will refuse it")
}

pub(super) fn pgbouncer_unreachable(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgBouncerUnreachable, "its admin console cannot be reached")
}

pub(super) fn pgbouncer_session_mode(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(
        facts,
        OutsideState::PgBouncerSessionMode,
        "it pools by session, so PAUSE waits for clients to leave",
    )
}

pub(super) fn pgbouncer_entry_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgBouncerEntryMissing, "it has no entry of its own for the database")
}

pub(super) fn pgbouncer_config_unwritable(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgBouncerConfigUnwritable, "its configuration cannot be replaced")
}

pub(super) fn pgbouncer_not_on_blue(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::PgBouncerNotOnBlue, "its entry does not lead to blue")
}

pub(super) fn broker_unreachable(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::BrokerUnreachable, "the broker cannot be reached")
}

pub(super) fn broker_single_node(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    if plan.broker.as_ref().is_some_and(|broker| broker.allow_single_node) {
        return Vec::new();
    }
    in_state(facts, OutsideState::BrokerSingleNode, "the broker has one node: its lost disk loses the queue")
}

pub(super) fn broker_unsuitable(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::BrokerUnsuitable, "the broker does not offer what the queue needs")
}

pub(super) fn command_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    in_state(facts, OutsideState::CommandMissing, "the program cannot be run")
}
