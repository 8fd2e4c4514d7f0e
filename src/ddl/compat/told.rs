//! What is to be known of the views before they are needed.

use super::kept::{Column, Kept, Now, Other, Writes};
use crate::finding::{Finding, Place, Severity};

/// What becomes of single columns.
pub(super) fn of_columns(kept: &Kept) -> Vec<Finding> {
    let table = kept.seen.name.plain();
    let told = |column: &Column| {
        let name = column.seen.name.as_str();
        let (severity, what) = match &column.now {
            Now::Same(_) => return None,
            Now::Gone => (
                Severity::Info,
                format!(
                    "{table}.{name} is dropped: old clients read NULL in its place, and what they write to it is lost"
                ),
            ),
            Now::Other(Other { reads: false, .. }) => (
                Severity::Warning,
                format!(
                    "the new type of {table}.{name} cannot be shown as {}: old clients read NULL in its place",
                    column.seen.type_name
                ),
            ),
            Now::Other(Other { writes: Writes::Lost, .. }) => (
                Severity::Warning,
                format!(
                    "what old clients write to {table}.{name} is lost: its USING reads columns that they do not know"
                ),
            ),
            Now::Other(_) => (
                Severity::Info,
                format!(
                    "old clients read {table}.{name} as {}; a value of the new type that is none of the old makes their query fail",
                    column.seen.type_name
                ),
            ),
        };
        Some(note(
            severity,
            "COMPAT_COLUMN",
            what,
            "Nothing to do, if old clients can live with it until they are gone.",
        ))
    };
    let demanded = kept.demanded().map(|name| {
        note(
            Severity::Warning,
            "COMPAT_NOT_NULL",
            format!("{table}.{name} is NOT NULL and has no default: every INSERT of old clients into the table fails"),
            "Give it a default until they are gone.",
        )
    });
    kept.columns.iter().filter_map(told).chain(demanded).collect()
}

/// What a client notices of writing through triggers.
pub(super) fn of_writing(kept: &Kept) -> Finding {
    let table = kept.seen.name.plain();
    match kept.key() {
        Some(_) => note(
            Severity::Info,
            "COMPAT_WRITES",
            format!(
                "old clients write {table} through triggers: INSERT … ON CONFLICT fails, and an UPDATE of a row that another transaction has just changed is refused with 40001"
            ),
            "Nothing to do, if old clients try such a transaction again.",
        ),
        None => note(
            Severity::Warning,
            "COMPAT_WRITES",
            format!(
                "{table} has no primary key that old clients still see: their UPDATE of a column that is dropped or has another type fails, and so does INSERT … ON CONFLICT"
            ),
            "Give the table a primary key in an earlier plan, or release clients that do not write those columns first.",
        ),
    }
}

pub(super) fn place() -> Place {
    Place::Plan { field: "schema.compat".into() }
}

pub(super) fn note(severity: Severity, code: &str, what: String, help: &str) -> Finding {
    Finding { code: code.to_owned(), severity, place: place(), what, help: help.to_owned() }
}
