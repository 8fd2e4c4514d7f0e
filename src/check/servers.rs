//! The servers as such: versions, roles in replication, room for what we open, settings.

use super::{
    Seen,
    view::{attempt_is_on, both, number, size_setting},
};
use crate::{
    facts::{Facts, ServerFacts},
    plan::{Plan, Side},
};

/// Majors we test on.
const SUPPORTED_MAJORS: std::ops::RangeInclusive<u32> = 15..=18;
/// Connections besides the copy workers: control, lease, snapshot, stream, capture, gates.
const CONNECTIONS_BESIDES_WORKERS: i64 = 6;
/// Copy workers we count with when the plan does not say.
const WORKERS_ASSUMED: i64 = 4;

fn on(side: Side, object: impl Into<String>, what: impl Into<String>) -> Seen {
    match side {
        Side::Blue => Seen::blue(object, what),
        Side::Green => Seen::green(object, what),
    }
}

fn each(facts: &Facts) -> impl Iterator<Item = (Side, &ServerFacts)> {
    let blue = facts.blue.as_ref().map(|server| (Side::Blue, server));
    blue.into_iter().chain(facts.green.as_ref().map(|server| (Side::Green, server)))
}

pub(super) fn version_untested(_: &Plan, facts: &Facts) -> Vec<Seen> {
    each(facts)
        .filter(|(_, server)| !SUPPORTED_MAJORS.contains(&server.major()))
        .map(|(side, server)| {
            on(side, "server_version", format!("PostgreSQL {} is not tested", server.major()))
        })
        .collect()
}

pub(super) fn version_order(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let older = both(facts).filter(|(blue, green)| green.major() < blue.major());
    let say = |(blue, green): (&ServerFacts, &ServerFacts)| {
        let what = format!("green is PostgreSQL {}, blue is {}", green.major(), blue.major());
        Seen::green("server_version", what)
    };
    older.map(say).into_iter().collect()
}

pub(super) fn not_primary(_: &Plan, facts: &Facts) -> Vec<Seen> {
    each(facts)
        .filter(|(_, server)| server.in_recovery)
        .map(|(side, _)| on(side, "pg_is_in_recovery", "this server is a standby"))
        .collect()
}

pub(super) fn wal_level(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let level = facts.blue.as_ref().and_then(|blue| blue.settings.get("wal_level"));
    level
        .filter(|level| *level != "logical")
        .map(|level| Seen::blue("wal_level", format!("wal_level is {level}, so nothing can be decoded")))
        .into_iter()
        .collect()
}

/// Slots we still have to make: one to follow, one to capture; those that exist are counted among the used.
fn slots_needed(plan: &Plan, facts: &Facts, blue: &ServerFacts) -> i64 {
    let wanted = if plan.revocations.is_empty() { 1 } else { 2 };
    let there = blue.slots.iter().filter(|slot| facts.names.slots.contains(&slot.name)).count();
    (wanted - i64::try_from(there).unwrap_or(i64::MAX)).max(0)
}

pub(super) fn slots_full(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let Some(most) = number(blue, "max_replication_slots") else { return Vec::new() };
    let used = i64::try_from(blue.slots.len()).unwrap_or(i64::MAX);
    let needed = slots_needed(plan, facts, blue);
    if most - used >= needed {
        return Vec::new();
    }
    vec![Seen::blue(
        "max_replication_slots",
        format!("{used} of {most} slots are used, and we need {needed} more"),
    )]
}

pub(super) fn senders_full(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let Some(most) = number(blue, "max_wal_senders") else { return Vec::new() };
    let ours = blue.slots.iter().filter(|slot| slot.active && facts.names.slots.contains(&slot.name)).count();
    let needed = (if plan.revocations.is_empty() { 1 } else { 2 }) - i64::try_from(ours).unwrap_or(0);
    let used = i64::from(blue.senders_used);
    if most - used >= needed {
        return Vec::new();
    }
    vec![Seen::blue(
        "max_wal_senders",
        format!("{used} of {most} senders are in use, and we need {needed} more"),
    )]
}

pub(super) fn wal_unbounded(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let limit = facts.blue.as_ref().and_then(|blue| size_setting(blue, "max_slot_wal_keep_size"));
    if plan.replicate.allow_unbounded_wal || limit != Some(None) {
        return Vec::new();
    }
    vec![Seen::blue("max_slot_wal_keep_size", "a slot nobody reads may fill blue's disk without limit")]
}

pub(super) fn wal_keep_small(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let limit = facts.blue.as_ref().and_then(|blue| size_setting(blue, "max_slot_wal_keep_size"));
    let ours = plan.replicate.retained_wal_max;
    match limit {
        Some(Some(bytes)) if bytes < ours.0 => {
            let what = format!(
                "blue drops a slot's WAL past {}, before the plan's {ours}: a slow copy would have to begin again",
                crate::plan::quantity::Size(bytes)
            );
            vec![Seen::blue("max_slot_wal_keep_size", what)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn connections_full(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let workers = plan.replicate.workers.map_or(WORKERS_ASSUMED, i64::from);
    let needed = workers + CONNECTIONS_BESIDES_WORKERS;
    let mut seen = Vec::new();
    for (side, server) in each(facts) {
        let Some(most) = number(server, "max_connections") else { continue };
        let reserved = ["superuser_reserved_connections", "reserved_connections"];
        let reserved: i64 = reserved.iter().filter_map(|setting| number(server, setting)).sum();
        let spare = most - reserved - i64::from(server.connections_used);
        if spare < needed && !attempt_is_on(facts) {
            let what = format!("{} connections are spare, and we open up to {needed}", spare.max(0));
            seen.push(on(side, "max_connections", what));
        }
    }
    seen
}

pub(super) fn not_durable(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(green) = &facts.green else { return Vec::new() };
    ["fsync", "full_page_writes"]
        .into_iter()
        .filter(|setting| green.settings.get(*setting).is_some_and(|value| value == "off"))
        .map(|setting| {
            Seen::green(setting, format!("{setting} is off: a crash of green loses or corrupts data"))
        })
        .collect()
}

pub(super) fn standbys_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    if blue.standbys.is_empty() || !green.standbys.is_empty() {
        return Vec::new();
    }
    vec![Seen::green(
        "pg_stat_replication",
        format!("blue has {} standby(s), green has none", blue.standbys.len()),
    )]
}

pub(super) fn encoding(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    // Into UTF8 every encoding can be converted, save bytes that have none.
    let fits = blue.encoding == green.encoding || (green.encoding == "UTF8" && blue.encoding != "SQL_ASCII");
    if fits {
        return Vec::new();
    }
    vec![Seen::green("encoding", format!("green is {}, blue is {}", green.encoding, blue.encoding))]
}

pub(super) fn extension_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    blue.extensions
        .keys()
        .filter(|name| {
            !green.extensions.contains_key(*name) && !green.available_extensions.contains_key(*name)
        })
        .map(|name| Seen::green(format!("extension {name}"), "blue uses it, green's server does not have it"))
        .collect()
}

pub(super) fn extension_version(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    let differs = |(name, version): (&String, &String)| {
        let there = green.extensions.get(name).or_else(|| green.available_extensions.get(name))?;
        (there != version).then(|| {
            Seen::green(
                format!("extension {name}"),
                format!("blue has version {version}, green gets {there}"),
            )
        })
    };
    blue.extensions.iter().filter_map(differs).collect()
}

/// Extensions that run jobs by themselves, and would do so on both sides.
const JOB_EXTENSIONS: [&str; 5] = ["pg_cron", "pg_partman", "pgagent", "pgq", "timescaledb"];

pub(super) fn jobs_on_both_sides(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    JOB_EXTENSIONS
        .into_iter()
        .filter(|name| blue.extensions.contains_key(*name))
        .map(|name| Seen::blue(format!("extension {name}"), "it runs jobs, which would run on both sides"))
        .collect()
}
