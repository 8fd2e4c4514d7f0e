//! The integration tests: one binary, so that it is linked once. Live tests share servers: see `support`.
//! Files named `tidy` or `plan…` need no server; `scripts/test --fast` runs those.

#[allow(dead_code, unused_imports, reason = "shared with the examples, which use other parts")]
mod support;

mod ddl;
mod testbed_live;
