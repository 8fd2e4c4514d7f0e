//! What contradicts itself in the switch: its budget, its route, its gates.

use super::Notes;
use crate::finding::Severity;
use crate::plan::{Cutover, Gate, Route, Soak};
use std::{collections::BTreeSet, time::Duration};

/// Longer than this, a pooler gives up on waiting clients by itself (PgBouncer's `query_wait_timeout` is 120 s).
const PAUSE_WORTH_A_WARNING: Duration = Duration::from_secs(60);

pub(super) fn cutover(cutover: &Cutover, notes: &mut Notes) {
    let pause = cutover.pause_max;
    if pause.0 < Duration::from_millis(100) {
        let what = format!("no switch fits into {pause}");
        notes.block("BAD_VALUE", "cutover.pause_max", what, "allow a second or more; the default is 5s");
    } else if pause.0 > PAUSE_WORTH_A_WARNING {
        let what = format!("clients may be held for {pause}, and may give up before");
        notes.add(
            Severity::Warning,
            "LONG_PAUSE",
            "cutover.pause_max",
            what,
            "a switch takes well under a second; allow some seconds",
        );
    }
    if cutover.transaction_age_max.0.is_zero() {
        notes.block(
            "BAD_VALUE",
            "cutover.transaction_age_max",
            "no transaction is 0ms old",
            "allow some seconds; the default is 10s",
        );
    }
    if cutover.sequence_gap == 0 {
        notes.block(
            "BAD_VALUE",
            "cutover.sequence_gap",
            "without a gap, numbers taken on blue at the last moment come again on green",
            "leave it out (1000), or more than is taken in a minute",
        );
    }
    if let Some(route) = &cutover.route {
        route_choice(route, notes);
    }
    gates("cutover.gates", &cutover.gates, notes);
    if let Some(soak) = &cutover.soak {
        soak_times(soak, notes);
        gates("cutover.soak.gates", &soak.gates, notes);
    }
}

fn soak_times(soak: &Soak, notes: &mut Notes) {
    if soak.every.0.is_zero() || soak.every > soak.length {
        let what = format!("looking every {} does not fit into {}", soak.every, soak.length);
        notes.block("BAD_VALUE", "cutover.soak.every", what, "look at least once, and not without a pause");
    }
}

fn route_choice(route: &Route, notes: &mut Notes) {
    let field = "cutover.route";
    notes.exactly_one(
        field,
        &[("pgbouncer", route.pgbouncer.is_some()), ("command", route.command.is_some())],
    );
    if route.pgbouncer.as_ref().is_some_and(Vec::is_empty) {
        notes.block(
            "BAD_VALUE",
            "cutover.route.pgbouncer",
            "no instance is given",
            "list every PgBouncer in front of the database",
        );
    }
    let mut seen = BTreeSet::new();
    for (at, bouncer) in route.pgbouncer.iter().flatten().enumerate() {
        let field = format!("cutover.route.pgbouncer[{at}]");
        if !seen.insert((bouncer.admin.expose(), &bouncer.database)) {
            notes.block("CONTRADICTION", &field, "this entry is in the list twice", "list it once");
        }
        if let Some(what) = target_trouble(&bouncer.to) {
            notes.block(
                "BAD_VALUE",
                format!("{field}.to"),
                what,
                "write `host=… port=… dbname=…`; user and password stay as they are in the entry",
            );
        }
    }
    let Some(command) = &route.command else { return };
    let parts = [
        ("pause", &command.pause),
        ("to_green", &command.to_green),
        ("to_blue", &command.to_blue),
        ("resume", &command.resume),
        ("prove", &command.prove),
    ];
    for (part, _) in parts.iter().filter(|(_, words)| words.first().is_none_or(String::is_empty)) {
        notes.block(
            "BAD_VALUE",
            format!("cutover.route.command.{part}"),
            "there is no program",
            "write a list: the program, then its arguments",
        );
    }
    if command.deadline.0.is_zero() {
        notes.block(
            "BAD_VALUE",
            "cutover.route.command.deadline",
            "nothing ends within 0ms",
            "allow a second or more",
        );
    }
}

/// What is wrong with a pooler entry's new target.
fn target_trouble(to: &str) -> Option<String> {
    let mut keys = BTreeSet::new();
    for word in to.split_whitespace() {
        match word.split_once('=') {
            Some((key @ ("host" | "port" | "dbname"), value)) if !value.is_empty() => {
                if !keys.insert(key) {
                    return Some(format!("`{key}` is given twice"));
                }
                if key == "port" && value.parse::<u16>().is_err() {
                    return Some(format!("`{value}` is not a port"));
                }
            }
            Some((key, _)) => return Some(format!("`{key}` is not one of host, port, dbname, or is empty")),
            None => return Some(format!("`{word}` is not `key=value`")),
        }
    }
    (!keys.contains("host")).then(|| "the target has no host".into())
}

fn gates(field: &str, gates: &[Gate], notes: &mut Notes) {
    for (at, gate) in gates.iter().enumerate() {
        let field = format!("{field}[{at}]");
        notes.exactly_one(
            &field,
            &[
                ("lag_max", gate.lag_max.is_some()),
                ("sql", gate.sql.is_some()),
                ("http", gate.http.is_some()),
                ("command", gate.command.is_some()),
            ],
        );
        let belongs = [
            ("on", gate.on.is_some(), "sql", gate.sql.is_some()),
            ("expect", gate.expect.is_some(), "sql", gate.sql.is_some()),
            ("status", gate.status.is_some(), "http", gate.http.is_some()),
        ];
        for (key, given, owner, owner_given) in belongs {
            if given != owner_given {
                let (what, help) = match given {
                    true => {
                        (format!("`{key}` belongs to `{owner}`"), format!("remove `{key}`, or add `{owner}`"))
                    }
                    false => (format!("`{owner}` needs `{key}`"), format!("add `{key}`")),
                };
                notes.block("CONTRADICTION", format!("{field}.{key}"), what, help);
            }
        }
        if gate.command.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
            notes.block(
                "BAD_VALUE",
                format!("{field}.command"),
                "there is no program",
                "write a list: the program, then its arguments",
            );
        }
    }
}
