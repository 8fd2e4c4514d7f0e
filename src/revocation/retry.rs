//! Which failures pass by themselves, and how long to wait before the next try.

use crate::error::{Error, Kind};
use crate::pg::replication::ServerError;
use std::time::Duration;
use tokio_postgres::error::DbError;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits that grow to a bound, each cut short by chance so that many do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Waits {
    tries: u32,
}

impl Waits {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(1 << self.tries.min(10)).min(LONGEST_WAIT);
        self.tries = self.tries.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Things went well again.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Whether the same thing may work a little later: a server is away, starts or stops, or cancels us.
pub(super) fn may_pass(error: &Error) -> bool {
    if error.kind == Kind::Connect {
        return !is_refusal(error);
    }
    error.kind == Kind::Server && (is_closed(error) || sqlstate(error).is_some_and(passes))
}

/// A wrong password does not pass.
fn is_refusal(error: &Error) -> bool {
    sqlstate(error).is_some_and(|code| code.starts_with("28") || code == "3D000")
}

/// 08 connection, 40 serialization, 53 resources, 57 cancelled or shutting down, 55P03 lock timeout, 55006 the slot is
/// still held by the session of ours that died.
fn passes(code: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || ["55P03", "55006"].contains(&code)
}

fn is_closed(error: &Error) -> bool {
    let source = error.source.as_deref().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    source.is_some_and(|error| error.is_closed() || is_io(error))
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// The SQLSTATE a server gave, wherever it is in the chain.
pub(super) fn sqlstate(error: &Error) -> Option<&str> {
    let mut next: Option<&(dyn std::error::Error + 'static)> =
        error.source.as_deref().map(|source| source as _);
    while let Some(source) = next {
        if let Some(db) = source.downcast_ref::<DbError>() {
            return Some(db.code().code());
        }
        if let Some(server) = source.downcast_ref::<ServerError>() {
            return Some(&server.sqlstate);
        }
        next = source.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let mut waits = Waits::default();
        assert!(waits.next() <= FIRST_WAIT);
        for _ in 0..40 {
            assert!(waits.next() <= LONGEST_WAIT);
        }
        assert!(waits.next() >= LONGEST_WAIT / 2);
        waits.reset();
        assert!(waits.next() <= FIRST_WAIT);
    }

    #[test]
    fn a_lost_lease_does_not_pass_and_a_lost_connection_does() {
        assert!(may_pass(&Error::new(Kind::Connect, "gone")));
        for kind in [Kind::Lease, Kind::Gate, Kind::Plan, Kind::Request, Kind::Server] {
            assert!(!may_pass(&Error::new(kind, "no")), "{kind:?}");
        }
    }
}
