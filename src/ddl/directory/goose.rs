//! goose: `NUMBER_name.sql` with `-- +goose Up`, in the order of the numbers; a file is one transaction, unless it says
//! `-- +goose NO TRANSACTION`.

use super::{
    Draft, Listing, Migration, RunAs, Tool, Version,
    left_out::Why,
    name::numbered,
    sections::{self, Mark, Syntax},
};
use crate::{
    error::Result,
    finding::{Finding, Place, Severity},
};

const SYNTAX: Syntax =
    Syntax { tool: Tool::Goose, mark, up: "-- +goose Up", without_transaction: RunAs::Statements };

/// What every mark begins with, in a line.
pub(super) const MARK: &str = "-- +goose";

/// What the way back begins with.
pub(super) const DOWN: &str = "-- +goose Down";

fn mark(comment: &str) -> Option<Mark> {
    let words = comment.strip_prefix("+goose")?.trim().to_ascii_uppercase();
    Some(match words.as_str() {
        "UP" => Mark::Up { transaction: true },
        "DOWN" => Mark::Down,
        "STATEMENTBEGIN" => Mark::Begin,
        "STATEMENTEND" => Mark::End,
        "NO TRANSACTION" => Mark::NoTransaction,
        "ENVSUB ON" | "ENVSUBST ON" => Mark::FillIn,
        "ENVSUB OFF" | "ENVSUBST OFF" => return None,
        _ => Mark::Unknown,
    })
}

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = numbered_files(listing, &SYNTAX)?;
    for entry in listing.entries.iter().filter(|entry| entry.ending() == "go" && entry.directory().is_none())
    {
        let Some(version) = numbered(entry.name()).and_then(|(number, _)| Version::number(number)) else {
            continue;
        };
        if entry.name().ends_with("_test.go") {
            continue;
        }
        let finding = Finding {
            code: "DDL_OPAQUE".into(),
            severity: Severity::Blocking,
            place: Place::Outside { object: listing.full(&entry.path) },
            what: "this migration is a Go program: what it does to the database cannot be seen".into(),
            help: "Write it as SQL; or, when it has been run, name it with --after.".into(),
        };
        draft.programs.push((version, finding));
    }
    Ok(draft)
}

/// Files `NUMBER_name.sql` with sections, in the order of the numbers.
pub(super) fn numbered_files(listing: &Listing, syntax: &Syntax) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        if entry.directory().is_some() {
            draft.left_out.add(Why::Deeper, &entry.path);
            continue;
        }
        match numbered(entry.name()).and_then(|(number, _)| Version::number(number)) {
            Some(version) => {
                let file = sections::forward(listing, entry, syntax)?;
                draft.list.push(Migration { version, file });
            }
            None => draft.left_out.add(Why::Unnamed, &entry.path),
        }
    }
    Ok(draft)
}
