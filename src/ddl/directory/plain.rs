//! Plain SQL: every `.sql` file right in the directory, in the order of the names, each statement by itself, as psql runs it.

use super::{Draft, Listing, Migration, RunAs, Tool, Version, left_out::Why};
use crate::error::Result;

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        if entry.directory().is_some() {
            draft.left_out.add(Why::Deeper, &entry.path);
            continue;
        }
        let file = listing.file(entry, Tool::Plain, RunAs::Statements)?;
        draft.list.push(Migration { version: Version::text(entry.name()), file });
    }
    Ok(draft)
}
