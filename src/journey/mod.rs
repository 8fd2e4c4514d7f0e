//! What each command does, from opening to end: sessions, handover, and the order of phases.
//!
//! A command line is [`crate::cli`]'s business, an effect is a [`crate::step`]'s, and the rules of going forward and
//! back are the [`crate::engine`]'s. What is left is here: who may begin, who asks whom to step aside, which phases
//! run, and what happens when one fails.

pub mod applied;
pub mod apply;
mod blue_alone;
pub mod compat;
pub mod cutover;
pub mod finish;
pub mod gates;
pub mod handover;
pub mod in_place;
mod lookout;
pub mod mapped_rows;
pub mod observe;
pub mod rehearse;
pub mod replicate;
pub mod report;
pub mod rollback;
pub mod session;
pub mod status;
mod throttle;
mod writes;
