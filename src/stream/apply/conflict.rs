//! What it means when green has a key twice where tables are merged.

use crate::error::{Error, Kind};
use crate::stream::change::Change;
use std::collections::BTreeSet;
use tokio_postgres::error::{DbError, SqlState};

/// The same error; in words of its own when rows of several of blue's tables have one key of green's.
pub(super) fn explained(error: Error, changes: &[Change]) -> Error {
    let Some(refused) = db_error(&error).filter(|db| *db.code() == SqlState::UNIQUE_VIOLATION) else {
        return error;
    };
    let (schema, table) = (refused.schema().unwrap_or_default(), refused.table().unwrap_or_default());
    let merged = changes.iter().filter_map(Change::shape).filter(|shape| {
        shape.is_merged() && shape.green.schema.as_str() == schema && shape.green.name.as_str() == table
    });
    let blues: BTreeSet<String> = merged.map(|shape| shape.blue().plain()).collect();
    if blues.is_empty() {
        return error;
    }
    let blues: Vec<String> = blues.into_iter().collect();
    let what = format!(
        "a row of {} has a key of {schema}.{table} ({}) that another row has there: tables that are merged must not share keys",
        blues.join(" or "),
        refused.constraint().unwrap_or("unique"),
    );
    Error { kind: Kind::Gate, what, ..error }
        .hint("delete one of the two rows on blue and replicate again; or make the keys differ by an expression, as `'a:' || id`, and begin anew after `migrate rollback --all`")
}

fn db_error(error: &Error) -> Option<&DbError> {
    error.source.as_ref()?.downcast_ref::<tokio_postgres::Error>()?.as_db_error()
}
