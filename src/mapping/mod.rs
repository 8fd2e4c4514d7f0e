//! How a table of blue becomes one of green when their shapes differ: renamed, computed, dropped, chosen by a condition,
//! split over several tables, merged into one.
//!
//! [`TableMap`] is what the operator wrote, [`Expression`] a piece of SQL over blue's columns, [`Mapping`] the map with
//! what blue's catalog says of the table. [`Mapping::fit`] holds it against green's table and gives a [`Fitted`], from
//! which alone statements are written ([`statements`]): copy, follow and comparison evaluate the same expressions, on
//! green. Nothing here touches a server.

mod expression;
mod fit;
mod statements;
mod story;
mod wanted;

pub use expression::{Expression, Unreadable};
pub use fit::{Fitted, Output, Problem, Source, as_error, lost_in_split};
pub use statements::{Image, LANDED, MADE_OF, Parameters};
pub use wanted::{BlueColumn, BlueTable, GreenColumn, GreenTable, Mapping, Merge, TableMap, TableMaps};
