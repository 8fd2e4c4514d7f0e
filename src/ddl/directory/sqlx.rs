//! sqlx: `NUMBER_name.sql` or `NUMBER_name.up.sql`, in the order of the numbers; a file is one transaction, unless its first
//! line is `-- no-transaction`.

use super::{
    Draft, Listing, Migration, RunAs, Tool, Version,
    left_out::Why,
    name::{Direction, directed, numbered},
};
use crate::error::Result;

/// What a file begins with that is to run outside a transaction.
pub(super) const NO_TRANSACTION: &str = "-- no-transaction";

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        if entry.directory().is_some() {
            draft.left_out.add(Why::Deeper, &entry.path);
            continue;
        }
        let Some((version, rest)) =
            numbered(entry.name()).and_then(|(number, rest)| Some((Version::number(number)?, rest)))
        else {
            draft.left_out.add(Why::Unnamed, &entry.path);
            continue;
        };
        if directed(rest).is_some_and(|(_, direction)| direction == Direction::Down) {
            draft.left_out.add(Why::Undoes, &entry.path);
            continue;
        }
        let mut file = listing.file(entry, Tool::Sqlx, RunAs::Transaction)?;
        if file.text.starts_with(NO_TRANSACTION) {
            file.convention.run_as = RunAs::Message;
        }
        draft.list.push(Migration { version, file });
    }
    Ok(draft)
}
