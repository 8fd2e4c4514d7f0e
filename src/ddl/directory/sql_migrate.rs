//! sql-migrate: `name.sql` with `-- +migrate Up` and `-- +migrate Down`, by leading number, then by name; a file is one
//! transaction, unless it says `notransaction`.

use super::{
    Draft, Listing, Migration, RunAs, Tool, Version,
    left_out::Why,
    sections::{self, Mark, Syntax},
};
use crate::error::Result;

const SYNTAX: Syntax =
    Syntax { tool: Tool::SqlMigrate, mark, up: "-- +migrate Up", without_transaction: RunAs::Statements };

/// What every mark begins with, in a line.
pub(super) const MARK: &str = "-- +migrate";

/// What the way back begins with.
pub(super) const DOWN: &str = "-- +migrate Down";

fn mark(comment: &str) -> Option<Mark> {
    let mut words = comment.strip_prefix("+migrate")?.split_whitespace();
    let (first, rest): (Option<&str>, Vec<&str>) = (words.next(), words.collect());
    Some(match (first, rest.as_slice()) {
        (Some("Up"), []) => Mark::Up { transaction: true },
        (Some("Up"), ["notransaction"]) => Mark::Up { transaction: false },
        (Some("Down"), [] | ["notransaction"]) => Mark::Down,
        (Some("StatementBegin"), []) => Mark::Begin,
        (Some("StatementEnd"), []) => Mark::End,
        _ => Mark::Unknown,
    })
}

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        if entry.directory().is_some() {
            draft.left_out.add(Why::Deeper, &entry.path);
            continue;
        }
        let file = sections::forward(listing, entry, &SYNTAX)?;
        draft.list.push(Migration { version: Version::named(entry.name()), file });
    }
    Ok(draft)
}
