//! How a table of blue becomes one of green when their shapes differ: renamed, computed, dropped, chosen by a condition,
//! split over several tables, merged into one, joined with others.
//!
//! [`TableMap`] is what the operator wrote, [`Expression`] a piece of SQL over blue's columns, [`Mapping`] the map with
//! what blue's catalog says of the table. [`Mapping::fit`] holds it against green's table and gives a [`Fitted`], from
//! which alone statements are written ([`statements`]): copy, follow and comparison evaluate the same expressions, on
//! green. [`Join`], [`Joining`] and [`Joined`] are the same three for rows of several tables that are one row of green. Nothing here touches a server.

mod expression;
mod fit;
mod join;
mod join_statements;
mod statements;
mod story;
mod wanted;

pub use expression::{Expression, Unreadable};
pub use fit::{Fitted, Output, Problem, Source, as_error, lost_in_split};
pub use join::{
    Given, Join, JoinSource, Joined, JoinedColumn, Joining, Reading, Staged, is_index_list, stage_of,
    stage_schema,
};
pub use join_statements::{JoinStatements, Rows};
pub use statements::{Image, LANDED, MADE_OF, Parameters};
pub use wanted::{BlueColumn, BlueTable, GreenColumn, GreenTable, Mapping, Merge, TableMap, TableMaps};
