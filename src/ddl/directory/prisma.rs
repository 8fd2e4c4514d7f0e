//! Prisma: `VERSION_name/migration.sql`, in the order of the directories' names; a file is one message to the server.

use super::{Draft, Listing, Migration, RunAs, Tool, Version, left_out::Why};
use crate::{
    ddl::encoding,
    error::{Error, Kind, Result},
};

/// Which database the migrations are for.
pub(super) const LOCK: &str = "migration_lock.toml";

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    refuse_other_database(listing)?;
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        match (entry.directory(), entry.name()) {
            (Some(directory), "migration.sql") if !directory.contains('/') => {
                let file = listing.file(entry, Tool::Prisma, RunAs::Message)?;
                draft.list.push(Migration { version: Version::text(directory), file });
            }
            (Some(_), "down.sql") => draft.left_out.add(Why::Undoes, &entry.path),
            (Some(_), _) => draft.left_out.add(Why::Deeper, &entry.path),
            (None, _) => draft.left_out.add(Why::Unnamed, &entry.path),
        }
    }
    Ok(draft)
}

fn refuse_other_database(listing: &Listing) -> Result<()> {
    let Some(lock) = listing.entry(LOCK) else { return Ok(()) };
    let name = listing.full(LOCK);
    let text = encoding::text(&name, lock.bytes.clone())?;
    for (index, line) in text.lines().enumerate() {
        let Some(provider) =
            line.trim().strip_prefix("provider").and_then(|rest| rest.trim().strip_prefix('='))
        else {
            continue;
        };
        let provider = provider.trim().trim_matches('"');
        if !["postgresql", "postgres"].contains(&provider) {
            let what =
                format!("{name}:{}:1: these migrations are for {provider}, not for PostgreSQL", index + 1);
            return Err(Error::new(Kind::Plan, what)
                .hint("name the directory that was made with `provider = \"postgresql\"`"));
        }
    }
    Ok(())
}
