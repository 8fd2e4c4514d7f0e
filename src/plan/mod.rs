//! What the operator wrote: one YAML file, as data.
//!
//! [`types`] is the shape, [`load`] reads it (and is the only user of the YAML crate), [`sql_files`] reads the SQL it names
//! (no other file here reads anything), [`node`] and [`fit`] turn its YAML into the shape and say where it does not fit,
//! [`variables`] are its `${NAME}`, [`validate`] says what contradicts itself or is not built yet, [`quantity`] are durations
//! and sizes with their units, [`schema`] tells editors and readers the shape.

pub mod excerpt;
pub mod fit;
pub mod load;
pub mod node;
mod not_yet;
pub mod quantity;
pub mod schema;
pub mod sql_files;
pub mod types;
pub mod validate;
pub mod variables;

pub use types::*;
