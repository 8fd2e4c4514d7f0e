//! The JSON Schema of a plan.
