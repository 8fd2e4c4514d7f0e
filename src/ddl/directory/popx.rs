//! popx, which Ory's servers use: `VERSION_name[.database][.autocommit].up.sql`, in the order of the versions as text. A file for
//! PostgreSQL outranks one for every database; a file is one transaction, unless it is marked `autocommit`.

use super::{
    Draft, Listing, Migration, RunAs, Tool, Version,
    left_out::Why,
    name::{Dialect, Direction, dialect, directed, numbered},
};
use crate::{
    ddl::source::{self, SqlFile},
    error::{Error, Kind, Result},
};
use std::collections::BTreeSet;

/// A name, taken apart.
struct Name<'a> {
    version: &'a str,
    /// `None`: for every database.
    dialect: Option<Dialect>,
    autocommit: bool,
    direction: Direction,
}

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    let mut named = Vec::new();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        match name(entry.name()).map_err(|word| unknown_word(&listing.full(&entry.path), &word))? {
            Some(name) => named.push((entry, name)),
            None => draft.left_out.add(Why::Unnamed, &entry.path),
        }
    }
    let is_ours =
        |name: &Name<'_>| name.dialect == Some(Dialect::Postgres) && name.direction == Direction::Up;
    let ours: BTreeSet<&str> =
        named.iter().filter(|(_, name)| is_ours(name)).map(|(_, name)| name.version).collect();
    for (entry, name) in &named {
        let why = match (name.direction, name.dialect) {
            (Direction::Down, _) => Some(Why::Undoes),
            (_, Some(Dialect::Other)) => Some(Why::OtherDatabase),
            (_, None) if ours.contains(name.version) => Some(Why::Outranked),
            _ => None,
        };
        if let Some(why) = why {
            draft.left_out.add(why, &entry.path);
            continue;
        }
        let run_as = if name.autocommit { RunAs::Message } else { RunAs::Transaction };
        let file = listing.file(entry, Tool::Popx, run_as)?;
        refuse_template(&file)?;
        draft.list.push(Migration { version: Version::text(name.version), file });
    }
    Ok(draft)
}

/// Whether a directory looks like one of popx: a name says for which database it is, or that it commits by itself.
pub(super) fn is_marked(file_name: &str) -> bool {
    matches!(name(file_name), Ok(Some(name)) if name.dialect.is_some() || name.autocommit)
}

/// `Ok(None)` when a name is not of this kind; the word that is neither database nor `autocommit` otherwise.
fn name(file_name: &str) -> std::result::Result<Option<Name<'_>>, String> {
    let Some((version, rest)) = numbered(file_name) else { return Ok(None) };
    let Some((stem, direction)) = directed(rest) else { return Ok(None) };
    let mut words = stem.split('.');
    words.next();
    let mut name = Name { version, dialect: None, autocommit: false, direction };
    for word in words {
        match dialect(word) {
            _ if word == "autocommit" && !name.autocommit => name.autocommit = true,
            Some(dialect) if name.dialect.is_none() => name.dialect = Some(dialect),
            _ => return Err(word.to_owned()),
        }
    }
    Ok(Some(name))
}

fn unknown_word(file: &str, word: &str) -> Error {
    Error::new(
        Kind::Plan,
        format!("{file}: `.{word}` in its name is neither a database popx knows nor `.autocommit`"),
    )
    .hint(format!("name it {}", Tool::Popx.pattern()))
}

/// popx fills in templates before it runs a file.
fn refuse_template(file: &SqlFile) -> Result<()> {
    let Some(start) = file.text.find("{{") else { return Ok(()) };
    let end = file.text[start..].find("}}").map_or(start + 2, |at| start + at + 2);
    Err(source::explain_at(
        file,
        source::Span { start, end },
        "popx would fill in this template, and what it gives is not known here",
        "write out the SQL it gives for PostgreSQL",
    ))
}
