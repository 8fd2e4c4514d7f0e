//! Locks and costs in words.

use crate::ddl::{
    Online,
    lock::{Cost, LockTaken},
};

/// `SHARE on public.t while an index is built: writers wait`; empty for a cost of nothing.
pub(super) fn cost(cost: &Cost) -> String {
    let mut text = locks(&cost.locks);
    let work: Vec<&str> = [
        (cost.rewrite, "the table is written anew"),
        (cost.build, "an index is built"),
        (cost.scan && !cost.build && !cost.rewrite, "every row is read"),
    ]
    .into_iter()
    .filter_map(|(is, words)| is.then_some(words))
    .collect();
    if !work.is_empty() {
        text.push_str(&format!("{}{}", if text.is_empty() { "" } else { " while " }, work.join(" and ")));
    }
    let waits = waits(cost);
    if !waits.is_empty() {
        text.push_str(&format!(": {waits}"));
    }
    text
}

/// As [`cost`], with words for nothing.
pub(super) fn cost_or_none(of: &Cost) -> String {
    let words = cost(of);
    if words.is_empty() { "no lock that anybody waits for".to_owned() } else { words }
}

/// `SHARE on public.t, ROW SHARE on public.r`.
pub(super) fn locks(locks: &[LockTaken]) -> String {
    let words: Vec<String> =
        locks.iter().map(|lock| format!("{} on {}", lock.mode, lock.relation.plain())).collect();
    words.join(", ")
}

/// Who stands still as long as it takes.
pub(super) fn waits(cost: &Cost) -> &'static str {
    let readers = cost.locks.iter().any(|lock| lock.mode.blocks_readers());
    let writers = cost.locks.iter().any(|lock| lock.mode.blocks_writers());
    match (readers, writers, cost.works_while_others_wait()) {
        (true, _, true) => "readers and writers wait all that time",
        (false, true, true) => "writers wait all that time",
        (true, _, false) => "readers and writers wait for a moment",
        (false, true, false) => "writers wait for a moment",
        (false, false, _) => "",
    }
}

/// How a step is run: `in a transaction of its own, lock_timeout 1000 ms, up to 60 tries`.
pub(super) fn how(step: &Online) -> String {
    let transaction =
        if step.transactional { "in a transaction of its own" } else { "outside a transaction" };
    let timeout = match step.retry.lock_timeout_ms {
        Some(ms) => format!("lock_timeout {ms} ms"),
        None => "no lock_timeout".to_owned(),
    };
    format!("{transaction}, {timeout}, up to {} tries", step.retry.tries)
}
