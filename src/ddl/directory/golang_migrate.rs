//! golang-migrate: `NUMBER_name.up.sql`, in the order of the numbers. A file is one message to the server, so its statements
//! are one transaction as soon as there are two.

use super::{
    Draft, Listing, Migration, RunAs, Tool, Version,
    left_out::Why,
    name::{Direction, directed, numbered},
};
use crate::error::Result;

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        if entry.directory().is_some() {
            draft.left_out.add(Why::Deeper, &entry.path);
            continue;
        }
        let parts = numbered(entry.name())
            .and_then(|(number, rest)| Some((Version::number(number)?, directed(rest)?.1)));
        match parts {
            Some((version, Direction::Up)) => {
                let file = listing.file(entry, Tool::GolangMigrate, RunAs::Message)?;
                draft.list.push(Migration { version, file });
            }
            Some((_, Direction::Down)) => draft.left_out.add(Why::Undoes, &entry.path),
            None => draft.left_out.add(Why::Unnamed, &entry.path),
        }
    }
    Ok(draft)
}
