//! What came to blue after the attempt was pinned, and would be left behind.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::{Persistence, TableKind};
use crate::pg::name::TableName;
use std::fmt;
use tokio_postgres::GenericClient;

/// Something on blue that the plan's patterns select now, and that the copy does not carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Newcomer {
    /// A table, of whatever kind, that was not there.
    Table(TableName),
    /// A table that is unlogged, or a foreign one, and was not there as such.
    UncarriedTable(TableName),
    /// A sequence that was not there.
    Sequence(TableName),
    /// A table that was there, but has left our publication: dropped and created again, or taken out of it.
    Replaced(TableName),
    /// A large object; there was none.
    LargeObject(String),
    /// A view, plain or materialized. It holds nothing of its own, so it is worth a warning only.
    View(TableName),
}

impl Newcomer {
    /// Whether leaving it behind loses what somebody wrote.
    pub fn loses_data(&self) -> bool {
        !matches!(self, Newcomer::View(_))
    }
}

impl fmt::Display for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Newcomer::Table(name) => write!(f, "table {} is new", name.plain()),
            Newcomer::UncarriedTable(name) => {
                write!(f, "table {} is new, and unlogged or foreign", name.plain())
            }
            Newcomer::Sequence(name) => write!(f, "sequence {} is new", name.plain()),
            Newcomer::Replaced(name) => {
                write!(
                    f,
                    "table {} was created anew or taken out of our publication: its changes are not sent",
                    name.plain()
                )
            }
            Newcomer::View(name) => write!(f, "view {} is new", name.plain()),
            Newcomer::LargeObject(oid) => write!(f, "large object {oid} is new"),
        }
    }
}

/// The way out, for those who are told of newcomers.
pub const WAY_OUT: &str = "drop what nobody needs; to take it along, `migrate rollback --all` and then `migrate replicate`, which copies afresh";

/// Looks for newcomers on blue; one statement, for the fence has milliseconds.
///
/// # Errors
/// [`Kind::Server`] when blue cannot be asked.
pub async fn look<C: GenericClient>(world: &World, blue: &C) -> Result<Vec<Newcomer>> {
    let known = Known::of(world);
    let carried_schemas: Vec<&str> = world.tables.iter().map(|table| table.blue.schema.as_str()).collect();
    let carried_names: Vec<&str> = world.tables.iter().map(|table| table.blue.name.as_str()).collect();
    let rows = blue
        .query(
            include_str!("../../sql/facts/list_newcomers.sql"),
            &[
                &known.kinds,
                &known.schemas,
                &known.names,
                &carried_schemas,
                &carried_names,
                &world.attempt.publication(),
            ],
        )
        .await
        .doing(Kind::Server, || "cannot look for new tables on blue".into())?;
    Ok(rows.iter().filter_map(|row| newcomer(world, row)).collect())
}

/// Refuses newcomers without which data is lost.
///
/// # Errors
/// [`Kind::Gate`] naming each.
pub fn refuse(newcomers: &[Newcomer]) -> Result<()> {
    match losses(newcomers) {
        None => Ok(()),
        Some(losses) => {
            Err(Error::new(Kind::Gate, format!("blue has what green would not get: {losses}")).hint(WAY_OUT))
        }
    }
}

/// Those without which data is lost, in a row; `None` when there are none.
pub fn losses(newcomers: &[Newcomer]) -> Option<String> {
    let losses = newcomers.iter().filter(|newcomer| newcomer.loses_data());
    Some(losses.map(ToString::to_string).collect::<Vec<_>>().join("; ")).filter(|list| !list.is_empty())
}

/// The relations that were on blue when the attempt was pinned, column by column.
#[derive(Default)]
struct Known<'a> {
    kinds: Vec<&'static str>,
    schemas: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Known<'a> {
    fn of(world: &'a World) -> Known<'a> {
        let mut known = Known::default();
        for table in &world.blue_facts.tables {
            known.add(kind(table.kind, table.persistence), &table.name);
        }
        for sequence in &world.blue_facts.sequences {
            known.add("S", &sequence.name);
        }
        for view in &world.blue_facts.views {
            known.add("v", view);
        }
        for view in &world.blue_facts.materialized_views {
            known.add("m", view);
        }
        known
    }

    fn add(&mut self, kind: &'static str, name: &'a TableName) {
        self.kinds.push(kind);
        self.schemas.push(name.schema.as_str());
        self.names.push(name.name.as_str());
    }
}

/// As the statement has a table's: `relkind` and `relpersistence`.
fn kind(kind: TableKind, persistence: Persistence) -> &'static str {
    match (kind, persistence) {
        (TableKind::Plain, Persistence::Permanent) => "rp",
        (TableKind::Plain, Persistence::Unlogged) => "ru",
        (TableKind::Partitioned, Persistence::Permanent) => "pp",
        (TableKind::Partitioned, Persistence::Unlogged) => "pu",
        (TableKind::Foreign, _) => "fp",
    }
}

/// One row as a newcomer, when the plan selects it.
fn newcomer(world: &World, row: &tokio_postgres::Row) -> Option<Newcomer> {
    let name = || TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name"));
    let selects = |name: &TableName| world.plan.replicate.tables.selects(name);
    let selected = || Some(name()).filter(selects);
    match row.get::<_, &str>("kind") {
        "large object" => {
            (world.blue_facts.large_objects == 0).then(|| Newcomer::LargeObject(row.get("name")))
        }
        "unpublished" => Some(Newcomer::Replaced(name())),
        "rp" | "pp" => selected().map(Newcomer::Table),
        "v" | "m" => selected().map(Newcomer::View),
        "S" => {
            let owner = row
                .get::<_, Option<String>>("owner_schema")
                .zip(row.get::<_, Option<String>>("owner_name"))
                .map(|(schema, name)| TableName::new(schema, name));
            selects(owner.as_ref().unwrap_or(&name())).then(|| Newcomer::Sequence(name()))
        }
        _ => selected().map(Newcomer::UncarriedTable),
    }
}
