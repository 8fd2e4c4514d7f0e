//! How a table of blue is written on green: columns by name, and how a row is found again.

mod mapped;

use super::pgoutput::{Cell, Identity, Relation, Tuple};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::Mapping;
use crate::pg::name::{Ident, TableName};
pub(super) use mapped::Mapped;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio_postgres::Client;

/// A table that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowTable {
    /// Its name on blue.
    pub blue: TableName,
    /// Its name on green.
    pub green: TableName,
    /// What tells its rows apart on green; empty when nothing does. Blue's replica identity must cover it.
    pub key: Vec<Ident>,
    /// How blue's rows become green's, when the shapes differ.
    pub mapping: Option<Arc<Mapping>>,
}

/// A table's shape on blue with its way onto green.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// As blue told it, to be compared with what blue tells later.
    pub relation: Relation,
    pub green: TableName,
    /// For each of blue's columns.
    pub targets: Vec<Target>,
    /// For each of blue's columns, unless a mapping computes green's.
    pub types: Vec<GreenType>,
    /// Columns that green does not share with blue and does not compute.
    pub own: Vec<Ident>,
    pub locate: Locate,
    /// Why rows must be written one by one, in order, if they must.
    pub only_row_by_row: Option<&'static str>,
    /// A row deleted and inserted again under another key is what an update would have made of it: green has no columns
    /// of its own, and writes all of blue's.
    pub moves_whole: bool,
    /// When the two shapes differ.
    pub mapped: Option<Mapped>,
    /// Which part it is of a table that is split.
    pub part: usize,
    /// How many of blue's tables are merged into this one of green's, this one included.
    pub sharing: usize,
    /// Rows of green are joined from it, and kept: see [`Shape::is_joined`].
    pub joined: bool,
}

/// A table of blue, and which part of it when it is split: what statements are kept by.
pub(super) type ShapeId = (u32, usize);

/// What green does with a column of blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Write,
    /// Nothing: green computes it, or the mapping has no use for it.
    Unwritten,
    /// GENERATED ALWAYS AS IDENTITY: an insert overrides it, an update cannot and checks that it keeps its value.
    IdentityAlways,
}

/// What a statement must know of the type of green's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GreenType {
    /// The operator of the type's own equality: with an empty search path `=` is another one, or none, for a type of an
    /// extension, and no index serves that.
    pub equals: String,
    /// The type under a domain, which takes a null where the domain would not.
    pub under_domain: Option<String>,
    /// The type, when it is a composite one, whose equality takes any record: a parameter must say which.
    pub composite: Option<String>,
}

/// How the one row that an update or delete means is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Locate {
    /// By these of blue's columns.
    Key(Vec<usize>),
    /// By all values: any one of the equal rows.
    WholeRow,
    /// It cannot be; why.
    Nowhere(String),
}

/// Where a parameter's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    New(usize),
    /// The row before, or the row after when the key kept its value.
    Old(usize),
}

/// A statement's text, and where its parameters come from, in order.
#[derive(Debug)]
pub(super) struct Written {
    pub sql: String,
    pub parameters: Vec<From>,
}

impl Shape {
    /// With its place among the parts of a split, and the number of tables that are merged into green's.
    ///
    /// A merged row whose key changes is a new row, so that the keys of the batch can be given up before any is taken; what is
    /// green's own in it is what it is in any new row. Nobody else writes there before the switch.
    pub fn placed(self, part: usize, sharing: usize) -> Shape {
        let writes_all = |mapped: &Mapped| mapped.fitted.outputs.iter().all(|output| !output.identity_always);
        let moves_whole = self.moves_whole || sharing > 1 && self.mapped.as_ref().is_some_and(writes_all);
        Shape { part, sharing, moves_whole, ..self }
    }

    /// What its statements are kept by.
    pub fn id(&self) -> ShapeId {
        (self.relation.oid, self.part)
    }

    /// Whether rows of other tables of blue are in green's table, too.
    pub fn is_merged(&self) -> bool {
        self.sharing > 1 && self.mapped.is_some()
    }

    /// Whether its changes are also changes of rows that are joined from it: which those are is asked before and after all of
    /// them, in the transaction of green's that writes them.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Its name on blue.
    pub fn blue(&self) -> TableName {
        TableName::new(self.relation.schema.as_str(), self.relation.name.as_str())
    }

    /// Looks at green's table and matches it with blue's.
    ///
    /// # Errors
    /// [`Kind::Gate`] when green lacks the table or a column.
    pub async fn resolve(client: &Client, relation: Relation, table: &FollowTable) -> Result<Shape> {
        if let Some(mapping) = &table.mapping {
            return mapped::resolve(client, relation, table, mapping).await;
        }
        let green = table.green.clone();
        let found = client
            .query(
                include_str!("../../sql/stream/read_columns.sql"),
                &[&green.schema.as_str(), &green.name.as_str()],
            )
            .await
            .doing(Kind::Server, || format!("cannot read the columns of {} on green", green.plain()))?;
        if found.is_empty() {
            return Err(Error::new(Kind::Gate, format!("green has no table {}", green.plain())).hint(
                "Was it dropped while following? Create it as the plan says, or start from a fresh copy.",
            ));
        }
        let fires = fires(client, &green).await?;
        let mut targets = Vec::with_capacity(relation.columns.len());
        let mut types = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let Some(row) = found.iter().find(|row| row.get::<_, Option<&str>>(0) == Some(&column.name))
            else {
                return Err(Error::new(
                    Kind::Gate,
                    format!("{} on green has no column `{}`, which blue's has", green.plain(), column.name),
                )
                .hint("Blue was altered after the copy. Take that back, or `migrate rollback --all` and start again with `migrate replicate`."));
            };
            types.push(GreenType { equals: row.get(3), under_domain: row.get(4), composite: row.get(5) });
            targets.push(match (row.get(1), row.get(2)) {
                (true, _) => Target::Unwritten,
                (false, true) => Target::IdentityAlways,
                (false, false) => Target::Write,
            });
        }
        let locate = locate(&relation, &table.key);
        let only_row_by_row = match (fires, targets.iter().all(|target| *target == Target::Unwritten)) {
            (true, _) => Some(FIRES),
            (_, true) => Some("green computes every column"),
            _ => None,
        };
        let is_blues = |name: &str| relation.columns.iter().any(|column| column.name == name);
        let own: Vec<Ident> = found
            .iter()
            .filter_map(|row| {
                row.get::<_, Option<&str>>(0).filter(|name| !row.get::<_, bool>(1) && !is_blues(name))
            })
            .map(Ident::new)
            .collect();
        let moves_whole = own.is_empty() && targets.iter().all(|target| *target == Target::Write);
        Ok(Shape {
            relation,
            green,
            targets,
            types,
            own,
            locate,
            only_row_by_row,
            moves_whole,
            mapped: None,
            part: 0,
            sharing: 1,
            joined: false,
        })
    }

    /// The columns that tell a row apart; none when no key does.
    pub fn key(&self) -> &[usize] {
        match &self.locate {
            Locate::Key(key) => key,
            Locate::WholeRow | Locate::Nowhere(_) => &[],
        }
    }

    /// Columns of blue that are sent to green.
    pub fn written(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.targets.len()).filter(|at| self.targets[*at] != Target::Unwritten)
    }

    /// The equality of a column.
    pub fn equals(&self, at: usize) -> &str {
        self.types.get(at).map_or("=", |of| of.equals.as_str())
    }

    /// The name of a column, on both sides.
    pub fn column(&self, at: usize) -> Ident {
        Ident::new(self.relation.columns[at].name.as_str())
    }

    /// An insert of several rows; parameters row by row, in the order of [`Shape::written`].
    pub fn insert(&self, rows: usize) -> Written {
        match &self.mapped {
            Some(mapped) => Written { sql: mapped.insert(rows), parameters: Vec::new() },
            None => Written::of(|places| self.plain_insert(rows, places)),
        }
    }

    /// The same for a table that is not mapped; its parameters come after those that the places have already.
    pub fn plain_insert(&self, rows: usize, places: &mut Places) -> String {
        let columns: Vec<_> = self.written().map(|at| self.column(at).to_string()).collect();
        if columns.is_empty() {
            return format!("insert into {} default values", self.green);
        }
        let mut sql =
            format!("insert into {} ({}) overriding system value values ", self.green, columns.join(", "));
        for row in 0..rows {
            let values: Vec<_> = self.written().map(|at| places.take(From::New(at))).collect();
            let comma = if row == 0 { "" } else { ", " };
            let _ = write!(sql, "{comma}({})", values.join(", "));
        }
        sql
    }

    /// An update that leaves out the columns whose new cell was not sent.
    pub fn update(&self, unchanged: &[bool]) -> Written {
        match &self.mapped {
            Some(mapped) => mapped.update(unchanged),
            None => Written::of(|places| self.plain_update(unchanged, places)),
        }
    }

    /// The same for a table that is not mapped; its parameters come after those that the places have already.
    pub fn plain_update(&self, unchanged: &[bool], places: &mut Places) -> String {
        let mut sets = Vec::new();
        let mut kept = Vec::new();
        for at in self.written().filter(|at| !unchanged[*at]) {
            let parameter = places.take(From::New(at));
            match self.targets[at] {
                Target::IdentityAlways => kept.push(format!("{} = {parameter}", self.column(at))),
                _ => sets.push(format!("{} = {parameter}", self.column(at))),
            }
        }
        let place = self.place(places, &kept);
        match sets.is_empty() {
            // Nothing to set, but the row must be there all the same.
            true => format!("select from {} where {place} for no key update", self.green),
            false => format!("update {} set {} where {place}", self.green, sets.join(", ")),
        }
    }

    /// What an update is that changes a column of GENERATED ALWAYS AS IDENTITY, which no UPDATE may set: the row goes and
    /// comes again, with what it had in the cells that were not sent and in green's own columns.
    pub fn replace(&self, unchanged: &[bool]) -> Written {
        Written::of(|places| self.plain_replace(unchanged, places))
    }

    fn plain_replace(&self, unchanged: &[bool], places: &mut Places) -> String {
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for at in self.written() {
            let column = self.column(at);
            values.push(if unchanged[at] { format!("gone.{column}") } else { places.take(From::New(at)) });
            columns.push(column.to_string());
        }
        for own in &self.own {
            columns.push(own.to_string());
            values.push(format!("gone.{own}"));
        }
        let place = self.place(places, &[]);
        format!(
            "with gone as (delete from {green} where {place} returning *) \
             insert into {green} ({}) overriding system value select {} from gone",
            columns.join(", "),
            values.join(", "),
            green = self.green,
        )
    }

    /// Whether a change gives a column of GENERATED ALWAYS AS IDENTITY another value, as far as blue tells.
    pub fn changes_identity(&self, before: &Tuple, new: &Tuple) -> bool {
        let changes = |at: usize| match (before.0.get(at), new.0.get(at)) {
            (Some(Cell::Text(before)), Some(Cell::Text(new))) => before != new,
            _ => false,
        };
        let identity =
            |at: &usize| self.targets[*at] == Target::IdentityAlways && self.relation.columns[*at].is_key;
        self.mapped.is_none() && (0..self.targets.len()).filter(identity).any(changes)
    }

    /// A delete.
    pub fn delete(&self) -> Written {
        match &self.mapped {
            Some(mapped) => mapped.delete(),
            None => Written::of(|places| self.plain_delete(places)),
        }
    }

    /// The same for a table that is not mapped; its parameters come after those that the places have already.
    pub fn plain_delete(&self, places: &mut Places) -> String {
        format!("delete from {} where {}", self.green, self.place(places, &[]))
    }

    /// The condition that finds the one row, with further conditions on it.
    fn place(&self, places: &mut Places, further: &[String]) -> String {
        let mut conditions = Vec::new();
        match &self.locate {
            Locate::Key(key) => {
                for at in key {
                    let parameter = places.take(From::Old(*at));
                    let composite = self.types.get(*at).and_then(|of| of.composite.as_ref());
                    let cast = composite.map_or_else(String::new, |of| format!("::{of}"));
                    conditions.push(format!("{} {} {parameter}{cast}", self.column(*at), self.equals(*at)));
                }
                conditions.extend_from_slice(further);
                conditions.join(" and ")
            }
            Locate::WholeRow | Locate::Nowhere(_) => {
                for at in self.written() {
                    let (column, parameter) = (self.column(at), places.take(From::Old(at)));
                    // By the text the type itself writes, which is what blue sent: not every type has an equality, and
                    // a cast to text is another thing (char(n), boolean). Byte by byte, whatever the column's collation
                    // holds to be equal; and a composite of nulls `is null`, but is not one.
                    conditions.push(format!(
                        "case when {column} is not distinct from null then {parameter}::text is null else pg_catalog.format('%s', {column}) collate pg_catalog.\"C\" = {parameter}::text end"
                    ));
                }
                conditions.extend_from_slice(further);
                if conditions.is_empty() {
                    // Without a column to write, any row is the one.
                    conditions.push("true".to_owned());
                }
                // tableoid, too, since a ctid is unique in one partition only.
                format!(
                    "(tableoid, ctid) = (select tableoid, ctid from {} where {} limit 1)",
                    self.green,
                    conditions.join(" and ")
                )
            }
        }
    }

    /// The cells that tell a row apart, when a key does.
    pub fn key_cells<'t>(&'t self, tuple: &'t Tuple) -> impl Iterator<Item = &'t Cell> {
        self.key().iter().filter_map(|at| tuple.0.get(*at))
    }
}

/// The parameters of a statement while it is put together.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub parameters: Vec<From>,
    /// How many others come before them.
    pub before: usize,
}

impl Places {
    /// Adds a parameter and gives its placeholder.
    pub fn take(&mut self, from: From) -> String {
        self.parameters.push(from);
        format!("${}", self.before + self.parameters.len())
    }
}

impl Written {
    fn of(write: impl FnOnce(&mut Places) -> String) -> Written {
        let mut places = Places::default();
        let sql = write(&mut places);
        Written { sql, parameters: places.parameters }
    }
}

/// Why a table that fires is written row by row.
const FIRES: &str = "a trigger or rule of green's table fires for each change";

async fn fires(client: &Client, green: &TableName) -> Result<bool> {
    let row = client
        .query_one(
            include_str!("../../sql/stream/read_firing.sql"),
            &[&green.schema.as_str(), &green.name.as_str()],
        )
        .await
        .doing(Kind::Server, || format!("cannot read the triggers of {} on green", green.plain()))?;
    Ok(row.get(0))
}

fn locate(relation: &Relation, key: &[Ident]) -> Locate {
    let position = |ident: &Ident| relation.columns.iter().position(|column| column.name == ident.as_str());
    let positions: Option<Vec<usize>> = key.iter().map(position).collect();
    let told = |at: &usize| relation.columns[*at].is_key;
    match (relation.identity, positions) {
        (_, Some(positions)) if !positions.is_empty() && positions.iter().all(told) => Locate::Key(positions),
        (Identity::Full, _) => Locate::WholeRow,
        (Identity::Nothing, _) => Locate::Nowhere("blue's table has no replica identity".to_owned()),
        _ if key.is_empty() => Locate::Nowhere("it has no key on green".to_owned()),
        _ => Locate::Nowhere("blue's replica identity does not cover green's key".to_owned()),
    }
}

#[cfg(test)]
mod tests;
