//! The rehearsal: the rewritten list runs on a scratch database, and what it does there is measured and compared with what
//! was predicted.
//!
//! In the order they are used: [`scratch`] makes a database from blue's schema, and a [`guardian`] removes it when we cannot;
//! [`lab`] runs a statement and sees its locks, scans, rewrites and builds ([`measured`]); [`verdict`] compares that with the
//! prediction; [`clients`] holds the applications' queries prepared and tells which break, [`queries`] finds them, and
//! [`shape`] reads which of them depend on the columns' number and order.
//!
//! There are no rows in the scratch database. Scans are seen by the server's own counters, which count a scan of an
//! empty table too, and by its debug messages; what fails only because of the rows in a table is not seen.

pub mod clients;
pub mod columns;
pub mod guardian;
pub mod lab;
pub mod measured;
pub mod queries;
pub mod report;
pub mod scratch;
pub mod shape;
pub mod verdict;
