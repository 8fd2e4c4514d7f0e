//! Transactions that slot creation and the fence would wait for.

use super::{Seen, view::attempt_is_on};
use crate::{facts::Facts, plan::Plan};

pub(super) fn prepared(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    // Slot creation waits for those of every database; once the slot is there, only this database's matter.
    let matters = |database: &str| !attempt_is_on(facts) || database == blue.database;
    blue.prepared_transactions
        .iter()
        .filter(|transaction| matters(&transaction.database))
        .map(|transaction| {
            let what = format!(
                "prepared {} ago in database {} and never ended",
                seconds(transaction.age_ms),
                transaction.database
            );
            Seen::blue(format!("prepared transaction {}", transaction.gid), what)
        })
        .collect()
}

pub(super) fn long(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let most_ms = plan.cutover.transaction_age_max.0.as_millis();
    blue.long_transactions
        .iter()
        .filter(|transaction| u128::from(transaction.age_ms) > most_ms)
        .filter(|transaction| transaction.writes || transaction.database == blue.database)
        .map(|transaction| {
            let what = format!(
                "open for {} ({}, role {}, {}, database {})",
                seconds(transaction.age_ms),
                transaction.state,
                transaction.role,
                if transaction.application.is_empty() {
                    "no application name"
                } else {
                    &transaction.application
                },
                transaction.database
            );
            Seen::blue(format!("session {}", transaction.pid), what)
        })
        .collect()
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms / 1000)
}

pub(super) fn hidden(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = facts.blue.as_ref().filter(|blue| !blue.role.sees_all_sessions) else {
        return Vec::new();
    };
    let what = format!("role {} does not see other roles' transactions", blue.role.name);
    vec![Seen::blue(format!("role {}", blue.role.name), what)]
}
