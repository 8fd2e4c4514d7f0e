//! The integration tests: one binary, so that it is linked once. Live tests share servers: see `support`.
//! Files named `tidy` or `plan…` need no server; `scripts/test --fast` runs those.

#[allow(dead_code, unused_imports, reason = "shared with the examples, which use other parts")]
mod support;

mod apply;
mod bad_input;
mod check;
mod connections;
mod copy;
mod crashes;
mod ddl;
mod directory_live;
mod facts;
mod history_live;
mod journey;
mod plan_cli;
mod plan_directory;
mod plan_errors;
mod plan_pages;
mod rehearse;
mod replication;
mod revocation;
mod route;
mod statements;
mod stream;
mod testbed_live;
mod tidy;
