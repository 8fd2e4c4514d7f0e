//! Revocations: captured from blue's log, held in RabbitMQ, confirmed or made effective on green, and counted.
//!
//! Reading order: [`rule`] says what a revocation is, [`transaction`] gathers blue's changes, [`predicate`] lets
//! Postgres judge them and [`prove`] lets it judge the rules; [`message`] is what travels and [`seal`] keeps it from
//! other eyes; [`broker`] holds it; [`capture`] fills the queue and [`replay`] empties it into ledger and effect;
//! [`outcome`] looks at the end whether anything revoked is still valid.

pub mod broker;
pub mod capture;
pub mod effect;
pub mod ledger;
pub mod message;
pub mod outcome;
pub mod predicate;
pub mod prove;
pub mod replay;
mod retry;
pub mod rule;
pub mod seal;
pub mod transaction;

pub use capture::{Capture, CaptureEnd, CaptureSpec, CaptureStatus};
pub use outcome::{
    EarlierLook, RevocationTotals, StillValid, look_early, still_valid, still_valid_since, totals,
};
pub use prove::prove_rules;
pub use replay::{Carried, EffectSession, Extent, ReplayEnd, ReplaySpec, replay};
