//! Real servers for the tests, the testbed and the demo: PostgreSQL, RabbitMQ, PgBouncer; a data set; traffic with a
//! history and the checker that judges it.
//!
//! A test begins with [`Pair::fresh`], and [`migrate`] runs the program under test.

pub mod broker;
#[cfg(test)]
pub mod busy;
pub mod cluster;
pub mod history;
pub mod installed;
#[cfg(test)]
pub mod live;
pub mod oauth;
pub mod pair;
pub mod pgbouncer;
pub mod rabbitmq;
// Cargo names the built program to integration tests only, not to examples.
#[cfg(test)]
pub mod run;
pub mod scratch;
pub mod shared;
pub mod stop;
pub mod traffic;

pub use broker::Broker;
pub use pair::Pair;
pub use pgbouncer::PgBouncer;
#[cfg(test)]
pub use run::{Desk, migrate};

/// The majors we promise.
pub struct Majors;

impl Majors {
    /// The usual blue.
    pub const OLDEST: u32 = 15;
    /// The usual green.
    pub const NEWEST: u32 = 18;
    /// Every one.
    pub const ALL: [u32; 4] = [15, 16, 17, 18];
}

impl PgBouncer {
    /// An instance of its own in front of blue.
    pub async fn start(pair: &Pair) -> PgBouncer {
        let scratch = scratch::Scratch::new("pgbouncer").expect("a scratch directory");
        let mut bouncer = PgBouncer::start_in(&scratch, pair.blue_server(), pair.blue_database())
            .await
            .expect("PgBouncer starts");
        bouncer.scratch = Some(scratch);
        bouncer
    }
}
