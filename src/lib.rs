//! `migrate` moves a live PostgreSQL database (blue) to another one (green) and loses nothing on the way.
//!
//! # Three ideas
//!
//! * A **plan** is what the operator wrote: one YAML file ([`plan`]).
//! * A **runbook** is the ordered list of **steps** computed from the plan and the **facts** read from the servers
//!   ([`runbook`], [`facts`]). Building it is pure: it can be printed, compared and fingerprinted.
//! * The **journal** is what we dare to say has happened. The [`engine`] is the only writer of it. After a crash
//!   it reads the journal, looks at the world again, and goes on or goes back.
//!
//! # The rooms, in reading order
//!
//! | room | knows |
//! |---|---|
//! | [`plan`] | what the operator wrote |
//! | [`facts`] | what was seen on a server |
//! | [`check`] | what would lose data or break blue |
//! | [`ddl`] | how to run DDL without blocking anyone |
//! | [`runbook`] | the story of a migration, as a list of steps |
//! | [`step`] | one small type per effect: look, do, take back |
//! | [`engine`] | forward and back, the journal, the lease |
//! | [`pg`] | Postgres' words: connections, names, positions, replication protocol |
//! | [`copy`], [`stream`] | the first copy; following blue's changes |
//! | [`revocation`] | capture, broker, replay |
//! | [`verify`] | comparing blue and green |
//! | [`rehearse`] | the DDL on a scratch database: what it locks there, and whose queries break |
//! | [`route`] | what sends clients to blue or green |
//! | [`journey`] | what each command does, from opening to end |
//! | [`cli`], [`ui`] | commands; the only place that prints |

pub mod check;
pub mod cli;
pub mod copy;
pub mod ddl;
pub mod engine;
pub mod error;
pub mod event;
pub mod facts;
pub mod finding;
pub mod journey;
pub mod mapping;
pub mod pg;
pub mod plan;
pub mod rehearse;
pub mod revocation;
pub mod route;
pub mod runbook;
pub mod step;
pub mod stream;
pub mod ui;
pub mod verify;
