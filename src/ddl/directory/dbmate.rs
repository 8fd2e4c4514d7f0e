//! dbmate: `NUMBER_name.sql` with `-- migrate:up` and `-- migrate:down`; a file is one transaction, unless it says
//! `transaction:false`.

use super::{
    Draft, Listing, RunAs, Tool, goose,
    sections::{Mark, Syntax},
};
use crate::error::Result;

const SYNTAX: Syntax =
    Syntax { tool: Tool::Dbmate, mark, up: "-- migrate:up", without_transaction: RunAs::Message };

/// What every mark begins with, in a line.
pub(super) const MARK: &str = "-- migrate:";

/// What the way back begins with.
pub(super) const DOWN: &str = "-- migrate:down";

fn mark(comment: &str) -> Option<Mark> {
    let mut words = comment.strip_prefix("migrate:")?.split_whitespace();
    let mark = match words.next() {
        Some("up") => Mark::Up { transaction: true },
        Some("down") => Mark::Down,
        _ => return Some(Mark::Unknown),
    };
    words
        .try_fold(mark, |mark, option| match (option, mark) {
            ("transaction:false", Mark::Up { .. }) => Some(Mark::Up { transaction: false }),
            ("transaction:true", _) | ("transaction:false", _) => Some(mark),
            _ => None,
        })
        .or(Some(Mark::Unknown))
}

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    goose::numbered_files(listing, &SYNTAX)
}
