//! The doorway. Everything is in the library; start reading at `lib.rs`.
fn main() {}
