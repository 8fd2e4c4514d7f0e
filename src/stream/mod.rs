//! Following blue's changes: reading pgoutput, and applying it to green so that nothing is lost or done twice.
//!
//! [`follow::Follower`] ties the parts together: a reader takes frames from blue's slot and decodes them
//! ([`pgoutput`]); an applier writes them on green in blue's order, many blue transactions in one of green's, with the
//! progress row in the same transaction. That row alone decides where to go on after any crash.

mod apply;
mod batch;
mod change;
mod dirty;
pub mod follow;
mod net;
pub mod pgoutput;
pub mod progress;
mod reader;
mod seen;
mod shape;
mod streamed;
pub mod watch;
