//! Limits that would never let the copy go on.

use super::Notes;
use crate::finding::Finding;
use crate::plan::{
    Throttle,
    quantity::{LagMax, Size, Span},
};

/// The copy moves rows in batches of 128 kB; at a lower rate than this, one batch would take longer than anybody watches.
const RATE_MIN_BYTES: u64 = 64 << 10;

/// The contradictions of a throttle by itself, as it may be changed while the copy runs.
pub fn throttle_alone(limits: &Throttle) -> Vec<Finding> {
    let mut notes = Notes::default();
    throttle(limits, &mut notes);
    notes.0
}

pub(super) fn throttle(limits: &Throttle, notes: &mut Notes) {
    let mut refuse = |field: &str, what: String, help: &str| {
        notes.block("BAD_VALUE", format!("replicate.throttle.{field}"), what, help);
    };
    if let Some(rate) = limits.rate_max.filter(|rate| rate.0 < RATE_MIN_BYTES) {
        let what = format!("at {rate} the copy would hardly move");
        refuse("rate_max", what, "allow at least 64kB/s; to make the copy wait, write `pause_while`");
    }
    if limits.active_sessions_max == Some(0) {
        let what = "with no session at all allowed, any client would stop the copy".into();
        refuse("active_sessions_max", what, "allow at least one, better as many as blue serves with ease");
    }
    if matches!(
        limits.replica_lag_max,
        Some(LagMax::Wal(Size(0)) | LagMax::Time(Span(std::time::Duration::ZERO)))
    ) {
        let what = "a standby is always a little behind".into();
        refuse("replica_lag_max", what, "allow some seconds, or some MB");
    }
    if limits.pause_while.as_ref().is_some_and(|sql| sql.trim().is_empty()) {
        refuse(
            "pause_while",
            "the query is empty".into(),
            "write a query that gives one boolean, or remove it",
        );
    }
}
