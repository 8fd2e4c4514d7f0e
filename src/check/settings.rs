//! Settings that change what a statement means, and the clocks.

use super::{Seen, view::both};
use crate::{facts::Facts, plan::Plan};

/// More than this between the two clocks is worth a word, in milliseconds; a round trip is far below.
const SKEW_WORTH_A_WORD_MS: u64 = 1_000;

/// Settings of the server that change what the application's statements do. Those that our own sessions pin (time zone,
/// date style, …) cannot be seen from here.
const MEANING: [&str; 10] = [
    "array_nulls",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "lc_numeric",
    "lc_time",
    "standard_conforming_strings",
    "transform_null_equals",
    "xmloption",
];

pub(super) fn differ(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    let differs = |setting: &&str| {
        let (ours, there) = (blue.settings.get(*setting)?, green.settings.get(*setting)?);
        (ours != there).then(|| Seen::green(*setting, format!("it is {ours} on blue and {there} on green")))
    };
    MEANING.iter().filter_map(differs).collect()
}

pub(super) fn of_database_missing(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    let mut seen = Vec::new();
    for (setting, value) in &blue.database_settings {
        let what = match green.database_settings.get(setting) {
            Some(there) if there == value => continue,
            Some(there) => format!("blue's database sets it to `{value}`, green's to `{there}`"),
            None => format!("blue's database sets it to `{value}`, green's does not"),
        };
        seen.push(Seen::green(setting, what));
    }
    seen
}

pub(super) fn clock_skew(_: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = both(facts) else { return Vec::new() };
    let ahead_ms = green.clock_ahead_ms.saturating_sub(blue.clock_ahead_ms);
    if ahead_ms.unsigned_abs() <= SKEW_WORTH_A_WORD_MS {
        return Vec::new();
    }
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let what = format!("green's clock is {} ms {direction} blue's", ahead_ms.unsigned_abs());
    vec![Seen::green("clock_timestamp", what)]
}
