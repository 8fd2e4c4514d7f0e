//! Partitions: made, attached and detached beside readers and writers of their table.

pub(super) mod attach;
mod bound;
pub(super) mod constraint;
pub(super) mod create;
pub(super) mod detach;
