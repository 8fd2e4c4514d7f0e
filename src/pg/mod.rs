//! Postgres' words: names, positions, connections, catalog queries, the replication protocol. Only this room
//! opens connections to Postgres.

pub mod catalog;
pub mod connect;
pub mod conninfo;
pub mod lsn;
pub mod name;
pub mod notices;
pub mod replication;
pub mod snapshot;
pub mod target;
mod tls;
mod transport;
pub mod trouble;
