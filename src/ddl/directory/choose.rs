//! Whose directory it is, from its shape.
//!
//! A directory that looks like two tools' is refused, unless both would run the same SQL in the same order.

use super::{
    Entry, Listing, Migrations, Tool, dbmate, flyway, goose, name, popx, prisma, read_as, sql_migrate, sqlx,
};
use crate::error::{Error, Kind, Result};

/// A tool, and the entry that makes the directory look like its own.
struct Sign<'a> {
    tool: Tool,
    path: &'a str,
}

pub(super) fn choose(listing: &Listing) -> Result<Migrations> {
    let signs = signs(listing);
    let mut signs = signs.iter();
    let Some(first) = signs.next() else { return read_as(listing, Tool::Plain) };
    let chosen = read_as(listing, first.tool)?;
    for other in signs {
        let same = read_as(listing, other.tool).is_ok_and(|migrations| runs_alike(&chosen, &migrations));
        if !same {
            return Err(ambiguous(listing, first, other));
        }
    }
    Ok(chosen)
}

fn runs_alike(left: &Migrations, right: &Migrations) -> bool {
    let texts = |migrations: &Migrations| {
        migrations.list.iter().map(|one| (one.file.name.clone(), one.file.text.clone())).collect::<Vec<_>>()
    };
    texts(left) == texts(right)
}

fn ambiguous(listing: &Listing, first: &Sign<'_>, other: &Sign<'_>) -> Error {
    let by_name = (first.tool == Tool::Plain).then_some(
        "its files are numbered, and the order of the names is not that of the numbers: psql's users go by name, sqlx by number",
    );
    let what = by_name.map(|why| format!("{}: {why}", listing.name)).unwrap_or_else(|| {
        format!(
            "{}: {} looks like {}, and {} like {}; they would not run the same",
            listing.name, first.path, first.tool, other.path, other.tool
        )
    });
    Error::new(Kind::Plan, what).hint(format!(
        "say which it is: --tool {} or --tool {}",
        first.tool.word(),
        other.tool.word()
    ))
}

/// The tools whose marks are there, the surest first.
fn signs(listing: &Listing) -> Vec<Sign<'_>> {
    let sql = || listing.entries.iter().filter(|entry| entry.is_sql());
    let below = |name: &str| {
        sql().find(|entry| entry.name() == name && entry.directory().is_some_and(|dir| !dir.contains('/')))
    };
    let marked = |mark: &str| listing.top_sql().find(|entry| entry.has_line(mark));
    let named = |is: fn(&str) -> bool| listing.top_sql().find(|entry| is(entry.name()));
    let names = [
        (Tool::Prisma, below("migration.sql").or_else(|| listing.entry(prisma::LOCK))),
        (Tool::Diesel, below("up.sql")),
        (Tool::Flyway, sql().find(|entry| flyway::is_named(entry.name()))),
        (Tool::Popx, named(popx::is_marked)),
    ];
    let mut signs = present(&names);
    // Where the names say whose it is, a comment of another tool may be a relic; one before a way back is not.
    let marks = if signs.is_empty() {
        [goose::MARK, dbmate::MARK, sql_migrate::MARK]
    } else {
        [goose::DOWN, dbmate::DOWN, sql_migrate::DOWN]
    };
    let tools = [Tool::Goose, Tool::Dbmate, Tool::SqlMigrate];
    let marks: Vec<(Tool, Option<&Entry>)> = tools.into_iter().zip(marks.map(marked)).collect();
    signs.extend(present(&marks));
    if !signs.is_empty() {
        return signs;
    }
    // Numbered files: of golang-migrate or sqlx when they have a direction, of sqlx or of nobody without one.
    let no_transaction =
        listing.top_sql().find(|entry| entry.bytes.starts_with(sqlx::NO_TRANSACTION.as_bytes()));
    let directed = named(|name| name::numbered(name).is_some_and(|(_, rest)| name::directed(rest).is_some()));
    let undirected =
        named(|name| name::numbered(name).is_some_and(|(_, rest)| name::directed(rest).is_none()));
    let found = [
        (Tool::GolangMigrate, directed.filter(|_| no_transaction.is_none())),
        (Tool::Sqlx, no_transaction.or(undirected.filter(|_| directed.is_some()))),
        (Tool::Plain, listing.top_sql().next().filter(|_| directed.is_none() && no_transaction.is_none())),
        (
            Tool::Sqlx,
            undirected.filter(|_| directed.is_none() && no_transaction.is_none() && all_numbered(listing)),
        ),
    ];
    signs.extend(present(&found));
    signs
}

fn present<'a>(found: &[(Tool, Option<&'a Entry>)]) -> Vec<Sign<'a>> {
    found.iter().filter_map(|(tool, entry)| Some(Sign { tool: *tool, path: &(*entry)?.path })).collect()
}

fn all_numbered(listing: &Listing) -> bool {
    listing.top_sql().all(|entry| name::numbered(entry.name()).is_some())
}
