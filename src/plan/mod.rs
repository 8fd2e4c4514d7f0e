//! What the operator wrote: one YAML file, as data. Pure.
//!
//! [`types`] is the shape, [`load`] reads it (and is the only user of the YAML crate), [`validate`] says what
//! contradicts itself or is not built yet, [`quantity`] are durations and sizes with their units.

pub mod load;
pub mod quantity;
pub mod types;
pub mod validate;

pub use types::*;
