//! The statements of a joined table: its copies of blue's tables, the rows that changes concern, and those rows made anew.
//!
//! Rows are made anew in three strokes, whatever the changes were: what the query gives for the keys concerned goes into a
//! temporary table, rows of green that differ from it go, and those that are missing come. All that go, go before any
//! comes, so a unique value may pass from one row to another.

use super::join::{Joined, JoinedColumn, Joining, Places, Staged};
use crate::pg::name::Ident;

/// The rows concerned.
const CONCERNED: &str = "migrate_concerned";

/// A join's temporary tables and statements in one session.
#[derive(Debug, Clone)]
pub struct JoinStatements<'j> {
    joining: &'j Joining,
    joined: &'j Joined,
    query: String,
    number: usize,
}

impl Joining {
    /// Its statements; `number` tells the joins of a session apart. `None` when the plan should have been refused.
    pub fn statements<'j>(&'j self, joined: &'j Joined, number: usize) -> Option<JoinStatements<'j>> {
        let query = self.query(&Joining::staged)?;
        Some(JoinStatements { joining: self, joined, query, number })
    }

    /// Makes the copy of a table of blue, empty, with its key.
    pub fn make_stage(source: &Staged, kind: &str, name: &str) -> String {
        let carried = source.blue.columns.iter().filter(|column| !column.generated);
        let columns: String =
            carried.map(|column| format!("{} {}, ", column.name, column.type_name)).collect();
        format!("create {kind} {name} ({columns}primary key ({}))", list(&source.blue.key))
    }

    /// Makes the indexes that the plan asks for on a copy.
    pub fn index_stage<'s>(&'s self, source: &'s Staged, name: &'s str) -> impl Iterator<Item = String> + 's {
        let indexes = self.join.from.get(&source.blue.name).into_iter().flat_map(|from| &from.indexes);
        indexes.map(move |index| format!("create index on {name} (\n{index}\n)"))
    }

    /// What the query gives, for looking at its columns.
    pub fn look(&self, places: &Places<'_>) -> Option<String> {
        Some(format!("select migrate_query.* from (\n{}) as migrate_query", self.query(places)?))
    }

    /// The rows' keys of a source, for looking at their expressions; the columns are `v0`, `v1` and so on.
    pub fn look_at_key(&self, source: &Staged, places: &Places<'_>) -> Option<String> {
        let keys = self.concerned(source, places)?;
        let values: Vec<String> =
            keys.iter().enumerate().map(|(at, key)| format!("{key} as v{at}")).collect();
        Some(format!("select {} from {} as {}", values.join(", "), places(source), source.blue.name.name))
    }

    /// Writes all rows of the joined table.
    pub fn fill(&self, joined: &Joined, places: &Places<'_>) -> Option<String> {
        let names: Vec<&Ident> = joined.columns.iter().map(|column| &column.name).collect();
        Some(format!(
            "insert into {} ({}) overriding system value select {} from (\n{}) as q",
            self.green,
            list(names.iter().copied()),
            qualified("q", names.iter().copied()),
            self.query(places)?
        ))
    }
}

impl JoinStatements<'_> {
    /// The temporary tables of a session.
    pub fn make_tables(&self) -> String {
        let number = self.number;
        let key = || self.keys().enumerate();
        let given: Vec<String> = key().map(|(at, column)| format!("c{at} {}", column.given_type)).collect();
        let green: Vec<String> = key().map(|(at, column)| format!("g{at} {}", column.green_type)).collect();
        let given_key: Vec<String> = key().map(|(at, _)| format!("c{at}")).collect();
        let mut sql = format!(
            "create temporary table {CONCERNED}_{number} ({}, {}) on commit delete rows; \
             create unique index on pg_temp.{CONCERNED}_{number} ({}); \
             create temporary table migrate_made_{number} on commit delete rows as select {} from {} with no data; \
             create unique index on pg_temp.migrate_made_{number} ({})",
            given.join(", "),
            green.join(", "),
            given_key.join(", "),
            list(self.names()),
            self.joined.green,
            list(self.key_names()),
        );
        if !self.joined.own.is_empty() {
            sql += &format!(
                "; create temporary table migrate_gone_{number} on commit delete rows as select {} from {} with no data; \
                 create index on pg_temp.migrate_gone_{number} ({})",
                list(self.key_names().chain(&self.joined.own)),
                self.joined.green,
                list(self.key_names()),
            );
        }
        sql
    }

    /// Notes the rows of green that some rows of a source concern, as green's copies are now. Parameters: a text array for each
    /// column of the source's key.
    pub fn note(&self, source: &Staged) -> Option<String> {
        let count = self.joined.key.len();
        let columns = |of: char| (0..count).map(|at| format!("{of}{at}")).collect::<Vec<_>>().join(", ");
        let values = columns('v');
        Some(format!(
            "insert into pg_temp.{CONCERNED}_{} ({}, {}) select {values}, {values} from {} on conflict do nothing",
            self.number,
            columns('c'),
            columns('g'),
            self.noted(source)?,
        ))
    }

    /// Makes the rows concerned in a table beside green's.
    pub fn make(&self) -> String {
        let same: Vec<String> = self
            .keys()
            .enumerate()
            .map(|(at, column)| {
                format!("migrate_query.{} {} c.c{at}", column.name, self.equals(&column.given_type))
            })
            .collect();
        // Row by row, and not flattened: so the key goes down into the query, whatever it is made of, and finds its rows by index.
        format!(
            "insert into pg_temp.migrate_made_{number} select q.* from pg_temp.{CONCERNED}_{number} as c \
             cross join lateral (select {} from (\n{}) as migrate_query where {} offset 0) as q",
            qualified("migrate_query", self.names()),
            self.query,
            same.join(" and "),
            number = self.number,
        )
    }

    /// Makes all rows in a table beside green's.
    pub fn make_all(&self) -> String {
        format!(
            "insert into pg_temp.migrate_made_{} select {} from (\n{}) as q",
            self.number,
            qualified("q", self.names()),
            self.query,
        )
    }

    /// Takes away the rows of green that are not as they were made.
    pub fn take(&self, rows: Rows) -> String {
        let number = self.number;
        let image = |of: &str| format!("row({})::pg_catalog.record", qualified(of, self.names()));
        let is_as_made = format!(
            "exists (select from pg_temp.migrate_made_{number} as m where {} and {} operator(pg_catalog.*=) {})",
            self.same("m", "g"),
            image("m"),
            image("g"),
        );
        let (using, chosen) = match rows {
            Rows::All => (String::new(), String::new()),
            Rows::Concerned => {
                let same: Vec<String> = self
                    .keys()
                    .enumerate()
                    .map(|(at, column)| {
                        format!("g.{} {} c.g{at} and ", column.name, self.equals(&column.green_type))
                    })
                    .collect();
                (format!(" using pg_temp.{CONCERNED}_{number} as c"), same.concat())
            }
        };
        let delete = format!("delete from {} as g{using} where {chosen}not {is_as_made}", self.joined.green);
        if self.joined.own.is_empty() {
            return delete;
        }
        let kept = qualified("g", self.key_names().chain(&self.joined.own));
        format!(
            "with gone as ({delete} returning {kept}) insert into pg_temp.migrate_gone_{number} select * from gone"
        )
    }

    /// Brings the rows that are missing: first, when green has columns of its own, those that had values in them.
    pub fn bring(&self) -> Vec<String> {
        let number = self.number;
        let insert = |columns: String| {
            format!("insert into {} ({columns}) overriding system value", self.joined.green)
        };
        let fresh = format!(
            "{} select {} from pg_temp.migrate_made_{number} as m where not exists (select from {} as g where {})",
            insert(list(self.names())),
            qualified("m", self.names()),
            self.joined.green,
            self.same("g", "m"),
        );
        if self.joined.own.is_empty() {
            return vec![fresh];
        }
        let again = format!(
            "{} select {}, {} from pg_temp.migrate_made_{number} as m join pg_temp.migrate_gone_{number} as o on {}",
            insert(list(self.names().chain(&self.joined.own))),
            qualified("m", self.names()),
            qualified("o", &self.joined.own),
            self.same("o", "m"),
        );
        vec![again, fresh]
    }

    /// For the rows of green that some rows of a source concern: the key, the row that the query gives now, and the one green
    /// has, as text. Parameters as for [`JoinStatements::note`].
    pub fn compare(&self, source: &Staged) -> Option<String> {
        let of_query: Vec<String> = self
            .keys()
            .enumerate()
            .map(|(at, column)| {
                format!("migrate_query.{} {} c.v{at}", column.name, self.equals(&column.given_type))
            })
            .collect();
        let of_green: Vec<String> = self
            .keys()
            .enumerate()
            .map(|(at, column)| {
                let equals = self.equals(&column.green_type);
                format!("g.{} {equals} c.v{at}::{}", column.name, column.green_type)
            })
            .collect();
        let as_green: Vec<String> = self
            .joined
            .columns
            .iter()
            .map(|column| format!("migrate_query.{}::{}", column.name, column.green_type))
            .collect();
        let values: Vec<String> = (0..self.joined.key.len()).map(|at| format!("v{at}")).collect();
        Some(format!(
            "with c as (select distinct {values} from {noted}) \
             select row({of_c})::text as key, \
             (select row({})::text from (\n{}) as migrate_query where {} offset 0) as expected, \
             (select row({})::text from {} as g where {}) as actual from c",
            as_green.join(", "),
            self.query,
            of_query.join(" and "),
            qualified("g", self.names()),
            self.joined.green,
            of_green.join(" and "),
            values = values.join(", "),
            of_c = values.iter().map(|value| format!("c.{value}")).collect::<Vec<_>>().join(", "),
            noted = self.noted(source)?,
        ))
    }

    /// The keys that rows of a source concern, none of them null.
    fn noted(&self, source: &Staged) -> Option<String> {
        let expressions = self.joining.concerned(source, &Joining::staged)?;
        let values: Vec<String> = expressions
            .iter()
            .zip(self.keys())
            .enumerate()
            .map(|(at, (expression, column))| format!("{expression}::{} as v{at}", column.given_type))
            .collect();
        let there: Vec<String> =
            (0..expressions.len()).map(|at| format!("migrate_noted.v{at} is not null")).collect();
        let key: Vec<_> = source
            .blue
            .key
            .iter()
            .filter_map(|name| Some((name, &source.blue.column(name)?.type_name)))
            .enumerate()
            .collect();
        let arrays: Vec<String> = (1..=key.len()).map(|at| format!("${at}::text[]")).collect();
        let names: Vec<String> = (0..key.len()).map(|at| format!("p{at}")).collect();
        let found: Vec<String> = key
            .iter()
            .map(|(at, (name, type_name))| {
                format!("t.{name} {} migrate_changed.p{at}::{type_name}", self.equals(type_name))
            })
            .collect();
        // Not flattened, so that each key is looked up once, and not again for each of its uses.
        Some(format!(
            "(select {} from (select t.* from unnest({}) as migrate_changed ({}) join {} as t on {}) as {} offset 0) as migrate_noted where {}",
            values.join(", "),
            arrays.join(", "),
            names.join(", "),
            source.stage,
            found.join(" and "),
            source.blue.name.name,
            there.join(" and "),
        ))
    }

    fn keys(&self) -> impl Iterator<Item = &JoinedColumn> {
        self.joined.key.iter().map(|at| &self.joined.columns[*at])
    }

    fn key_names(&self) -> impl Iterator<Item = &Ident> {
        self.keys().map(|column| &column.name)
    }

    fn names(&self) -> impl Iterator<Item = &Ident> {
        self.joined.columns.iter().map(|column| &column.name)
    }

    /// The equality of a type.
    fn equals(&self, type_name: &str) -> &str {
        self.joined.equalities.get(type_name).map_or("=", String::as_str)
    }

    /// That two rows have one key.
    fn same(&self, one: &str, other: &str) -> String {
        self.keys()
            .map(|column| format!("{one}.{0} {1} {other}.{0}", column.name, self.equals(&column.green_type)))
            .collect::<Vec<_>>()
            .join(" and ")
    }
}

/// Which rows of a joined table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Those that were noted.
    Concerned,
    /// All.
    All,
}

fn list<'n>(names: impl IntoIterator<Item = &'n Ident>) -> String {
    names.into_iter().map(Ident::to_string).collect::<Vec<_>>().join(", ")
}

fn qualified<'n>(of: &str, names: impl IntoIterator<Item = &'n Ident>) -> String {
    names.into_iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ")
}
