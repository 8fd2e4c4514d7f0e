//! Which failures may pass by themselves, and how long we try.

use super::replication::ServerError;
use crate::error::{Error, Kind};
use std::time::Duration;

/// Attempts without any progress in between, and the longest wait between two: together about two minutes.
const ATTEMPTS: u32 = 16;
const WAIT_MAX: Duration = Duration::from_secs(10);
const WAIT_MIN: Duration = Duration::from_millis(200);

/// How many attempts are left.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// How long to wait before the next attempt; `None` when it is enough.
    pub fn next_wait(&mut self) -> Option<Duration> {
        if self.failures >= ATTEMPTS {
            return None;
        }
        let wait = WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX);
        self.failures += 1;
        // Jitter, so that several of us do not come back all at once.
        Some(wait.mul_f64(rand::random_range(0.5..1.0)))
    }
}

/// Whether a new connection and some time may heal it. What the data or the plan is to blame for never passes.
pub fn may_pass(error: &Error) -> bool {
    passes(error, code_may_pass)
}

/// Whether a connection dropped, or its server stopped, starts or has no room for one more.
pub fn lost_a_server(error: &Error) -> bool {
    passes(error, |sqlstate| {
        matches!(sqlstate, "57P01" | "57P02" | "57P03" | "57P05" | "53300") || sqlstate.starts_with("08")
    })
}

/// Whether a server said that others are in the way: a lock, a deadlock, no room for one more connection.
pub fn is_contention(error: &Error) -> bool {
    let contends = |sqlstate: &str| matches!(sqlstate, "55P03" | "40001" | "40P01" | "53300");
    // What has no code is of a connection.
    passes(error, contends) && !passes(error, |_| false)
}

/// Judges by the server's code; what has none, by whether a connection broke.
fn passes(error: &Error, code_passes: impl Fn(&str) -> bool) -> bool {
    match error.kind {
        // The journal's own kind, when green does not take an entry.
        Kind::Connect | Kind::Server | Kind::Stopped => {}
        _ => return false,
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut unsaid = error.kind == Kind::Connect;
    while let Some(cause) = next {
        if let Some(postgres) = cause.downcast_ref::<tokio_postgres::Error>() {
            match postgres.code() {
                Some(code) => return code_passes(code.code()),
                None => unsaid |= postgres.is_closed(),
            }
        }
        if let Some(db) = cause.downcast_ref::<tokio_postgres::error::DbError>() {
            return code_passes(db.code().code());
        }
        if let Some(server) = cause.downcast_ref::<ServerError>() {
            return code_passes(&server.sqlstate);
        }
        unsaid |= cause.is::<std::io::Error>();
        next = cause.source();
    }
    unsaid
}

fn code_may_pass(sqlstate: &str) -> bool {
    // A slot still in use by our last connection, a lock, a deadlock; a server that stops, starts or is full.
    matches!(sqlstate, "55006" | "55P03" | "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "57P05")
        || ["08", "53", "58"].iter().any(|class| sqlstate.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str) -> Error {
        let cause = ServerError { sqlstate: sqlstate.to_owned(), ..ServerError::default() };
        Error::new(Kind::Server, "x").source(cause)
    }

    #[test]
    fn only_what_time_can_heal_is_tried_again() {
        assert!(may_pass(&server("55006")));
        assert!(may_pass(&server("57P03")));
        assert!(!may_pass(&server("23505")));
        assert!(may_pass(&server("55P03")) && !lost_a_server(&server("55P03")));
        assert!(lost_a_server(&server("57P01")) && lost_a_server(&Error::new(Kind::Connect, "gone")));
        assert!(!may_pass(&server("42P01")));
        assert!(is_contention(&server("40P01")) && !is_contention(&server("57P01")));
        assert!(!is_contention(&Error::new(Kind::Connect, "gone")));
        assert!(may_pass(&Error::new(Kind::Connect, "gone")));
        assert!(!may_pass(&Error::new(Kind::Gate, "shape")));
        assert!(!may_pass(&Error::new(Kind::Lease, "epoch")));
        assert!(!may_pass(&Error::new(Kind::Stopped, "something is in the way")));
        assert!(may_pass(&Error::new(Kind::Stopped, "journal").source(std::io::Error::other("reset"))));
    }

    #[test]
    fn patience_ends() {
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.next_wait()).collect();
        assert_eq!(waits.len(), 16);
        assert!(waits.iter().all(|wait| *wait <= WAIT_MAX));
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(40));
    }
}
