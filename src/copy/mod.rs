//! The first copy: blue's schema and rows, brought to an empty green, each table as of a moment of its own.
//!
//! In the order they are used: [`empty`] proves that green may be filled, [`schema`] clones blue's schema with the
//! [`pg_dump`] it finds, [`deferred`] takes indexes and constraints away, [`rows`] copies within the plan's [`throttle`], [`builds`] and [`rebuild`] put
//! back what was taken, [`views`] fills materialized views, [`analyze`] gives the planner its statistics. [`made`] remembers what
//! was created on green, so that exactly that can be dropped again.
//!
//! Everything here that writes on green first reads the lease `for key share` in the same transaction, and stops with
//! [`crate::error::Kind::Lease`] when the epoch is no longer ours.

pub mod analyze;
pub mod builds;
mod chunk;
pub mod crew;
pub mod cutting;
pub mod deferred;
pub mod empty;
mod format;
mod lease;
pub mod ledger;
mod load;
mod lock_watch;
pub mod made;
mod moment;
pub mod pg_dump;
mod piece;
mod pump;
pub mod rebuild;
pub mod rows;
pub mod schema;
mod script;
mod table;
pub mod throttle;
pub mod views;
