//! Rows of several tables of blue that are one row of green: what the operator wrote of it, and what the catalogs say.
//!
//! Green keeps a copy of each of these tables, as blue has them (its *stage*), and the rows of the joined table are what the plan's
//! query gives over those copies. A change of blue concerns few rows: which, the plan says for each table with an expression.

use super::expression::{AFTER, BEFORE, Expression, Unreadable, never_the_same, shown};
use super::fit::{Problem, problem};
use super::wanted::{BlueTable, GreenTable};
use crate::ddl::parse::{self, NodeEnum, RelationPlace, node};
use crate::facts::ServerFacts;
use crate::finding::suggest;
use crate::pg::name::{Ident, TableName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How rows of several tables of blue become one row of a table of green.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The columns that tell green's rows apart; the query gives them, and green has a unique index of just these.
    pub key: Vec<Ident>,
    /// A query that gives green's rows, each column under green's name. It reads the tables of `from`, under blue's names with their schema and with blue's columns and types, and nothing else; it is evaluated on green. Functions and types outside `pg_catalog` are named with their schema. The same rows must give the same again: say `order by` where an order matters.
    pub query: String,
    /// The tables of blue that the query reads.
    pub from: BTreeMap<TableName, JoinSource>,
}

/// A table of blue that is joined with others.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinSource {
    /// Which row of green a row of this table has a part in: an SQL expression over its columns for each column of the join's `key`. Where the row does not tell, a subquery may look it up in the other tables of `from`. NULL: none.
    pub key: Vec<String>,
    /// Indexes for the look-ups of the query and of the other tables' keys, each as it stands in the parentheses of CREATE INDEX. The table's own key has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
}

/// A query or an expression that reads tables, by their names on blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    sql: String,
    /// In the order of the text.
    places: Vec<RelationPlace>,
}

impl Reading {
    /// Reads a text as one query.
    ///
    /// # Errors
    /// When it is not SQL, more or other than a query, or writes, locks, or gives something else each time.
    pub fn query(text: &str) -> Result<Reading, Unreadable> {
        let text = text.trim().trim_end_matches(';').trim_end();
        if text.is_empty() {
            return Err(Unreadable { what: "it is empty".into() });
        }
        let tree = parse::parse_one(text).map_err(|error| Unreadable { what: shown(text, &error, 0) })?;
        let NodeEnum::SelectStmt(select) = &tree else {
            return Err(Unreadable { what: "it is no query".into() });
        };
        if select.into_clause.is_some() || !parse::written(&tree).is_empty() || parse::locks_rows(&tree) {
            return Err(Unreadable { what: "it does more than read".into() });
        }
        // In a line of its own: what follows must not fall into a comment at its end.
        Reading::of(format!("{text}\n"), &tree)
    }

    /// Reads a text as one expression, which may have subqueries.
    ///
    /// # Errors
    /// As [`Expression::read`].
    pub fn expression(text: &str) -> Result<Reading, Unreadable> {
        Expression::read(text)?;
        let enclosed = format!("{BEFORE}{text}{AFTER}");
        let tree = parse::parse_one(&enclosed)
            .map_err(|error| Unreadable { what: shown(text, &error, BEFORE.len()) })?;
        let mut reading = Reading::of(enclosed, &tree)?;
        let lead = "select ".len();
        reading.sql.drain(..lead);
        reading.places.iter_mut().for_each(|place| place.at -= lead);
        Ok(reading)
    }

    fn of(sql: String, tree: &NodeEnum) -> Result<Reading, Unreadable> {
        let refuse = |what: String| Err(Unreadable { what });
        if parse::has_star(tree) {
            return refuse("it names all columns at once (`*`): name each that it needs".into());
        }
        if let Some(what) = never_the_same(&sql) {
            return refuse(what);
        }
        let is_sample = |token: &parse::Token| token.kind == node::Token::Tablesample;
        if parse::tokens(&sql).is_ok_and(|tokens| tokens.iter().any(is_sample)) {
            return refuse("it reads a sample, and would read another one when it is applied again".into());
        }
        let mut places = parse::relation_places(tree);
        places.sort_by_key(|place| place.at);
        places.dedup();
        match places.iter().find(|place| place.schema.is_empty()) {
            Some(place) => refuse(format!(
                "`{}` is named without its schema, or is no name of the query's own WITH",
                place.name
            )),
            None => Ok(Reading { sql, places }),
        }
    }

    /// The tables it reads.
    pub fn tables(&self) -> impl Iterator<Item = TableName> + '_ {
        self.places.iter().map(|place| TableName::new(place.schema.as_str(), place.name.as_str()))
    }

    /// The text with other tables in the place of those it names; `None` when it names one that `place` does not know.
    pub fn over(&self, place: &dyn Fn(&TableName) -> Option<String>) -> Option<String> {
        let tokens = parse::tokens(&self.sql).ok()?;
        let mut text = String::new();
        let mut done = 0;
        for (at, table) in self.places.iter().zip(self.tables()) {
            // Schema, dot, name.
            let first = tokens.iter().position(|token| token.start == at.at)?;
            let end = tokens.get(first + 2)?.end;
            text.push_str(&self.sql[done..at.at]);
            text.push_str(&place(&table)?);
            if !at.has_alias {
                text.push_str(&format!(" as {}", table.name));
            }
            done = end;
        }
        text.push_str(&self.sql[done..]);
        Some(text)
    }
}

/// A join, and blue's tables that are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Green's table.
    pub green: TableName,
    /// What the operator wrote.
    pub join: Join,
    /// Blue's tables, as they were when the attempt was pinned, each with its copy on green.
    pub sources: Vec<Staged>,
}

/// A table of blue, and the copy of it that green keeps to join from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Blue's.
    pub blue: BlueTable,
    /// Green's copy.
    pub stage: TableName,
}

/// A column that the query gives, as green says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub name: Ident,
    /// Its type, without a modifier.
    pub type_name: String,
}

/// Where green's copies of blue's tables are.
pub type Places<'p> = dyn Fn(&Staged) -> String + 'p;

/// Whether a text may stand in the parentheses of CREATE INDEX.
pub fn is_index_list(text: &str) -> bool {
    let sql = format!("create index on t (\n{text}\n)");
    let Ok(NodeEnum::IndexStmt(index)) = parse::parse_one(&sql) else { return false };
    index.where_clause.is_none() && index.options.is_empty() && index.index_including_params.is_empty()
}

/// The schema of green that holds the copies. Plan names have `-` instead of `_`, so no two plans meet.
pub fn stage_schema(plan: &str) -> Ident {
    Ident::new(format!("migrate_stage_{}", plan.replace('-', "_")))
}

/// Where green keeps its copy of a table that is joined.
pub fn stage_of(plan: &str, blue: &TableName) -> TableName {
    TableName { schema: stage_schema(plan), name: blue.name.clone() }
}

impl Joining {
    /// The joins of a plan, with those of their tables that blue has.
    pub fn all(plan: &str, joins: &BTreeMap<TableName, Join>, blue: &ServerFacts) -> Vec<Joining> {
        let joining = |(green, join): (&TableName, &Join)| {
            let staged = |name: &TableName| {
                Some(Staged { blue: BlueTable::of(blue.table(name)?), stage: stage_of(plan, name) })
            };
            Joining {
                green: green.clone(),
                join: join.clone(),
                sources: join.from.keys().filter_map(staged).collect(),
            }
        };
        joins.iter().map(joining).collect()
    }

    /// The copy of a table of blue; none when it is not in the join.
    pub fn source(&self, blue: &TableName) -> Option<&Staged> {
        self.sources.iter().find(|source| source.blue.name == *blue)
    }

    /// Where they are while green follows.
    pub fn staged(source: &Staged) -> String {
        source.stage.to_string()
    }

    /// The query over copies; `None` when it is not what a plan may hold.
    pub fn query(&self, places: &Places<'_>) -> Option<String> {
        Reading::query(&self.join.query).ok()?.over(&|table| Some(places(self.source(table)?)))
    }

    /// The key that a row of a table concerns, an expression for each column; over copies.
    pub fn concerned(&self, source: &Staged, places: &Places<'_>) -> Option<Vec<String>> {
        let of =
            |text: &String| Reading::expression(text).ok()?.over(&|table| Some(places(self.source(table)?)));
        self.join.from.get(&source.blue.name)?.key.iter().map(of).collect()
    }

    /// What can be said before green has its shape.
    pub fn problems_on_blue(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for Staged { blue, .. } in &self.sources {
            let field = format!("from.{}", blue.name.plain());
            if !blue.is_whole {
                let what = format!(
                    "{} is partitioned, a partition or foreign, and joining those is not built yet",
                    blue.name.plain()
                );
                problems.push(problem(field, what, "exclude it, or give it the same shape on both sides"));
            } else if blue.key.is_empty() {
                let what = format!("{} has nothing that names a row", blue.name.plain());
                problems.push(problem(
                    field,
                    what,
                    "give it a primary key, or a unique index of NOT NULL columns with `replica identity full` or `using index`",
                ));
            }
        }
        problems
    }

    /// Holds what the query gives against green's table.
    ///
    /// # Errors
    /// Every reason why it does not fit.
    pub fn fit(&self, green: &GreenTable, given: &[Given]) -> Result<Joined, Vec<Problem>> {
        let target = self.green.plain();
        let mut problems = Vec::new();
        if green.columns.is_empty() {
            let what = format!("green has no table {target}");
            return Err(vec![problem("", what, "create it on green, or mend the name")]);
        }
        for (at, column) in given.iter().enumerate() {
            let name = column.name.as_str();
            match green.columns.iter().find(|other| other.name == column.name) {
                None => {
                    let known: Vec<&str> = green.columns.iter().map(|it| it.name.as_str()).collect();
                    let what = format!("the query gives `{name}`, and {target} on green has no such column");
                    problems.push(problem("query", what, suggest(name, &known, "it has")));
                }
                Some(other) if other.generated => {
                    let what = format!("green computes {target}.{name} by itself");
                    problems.push(problem("query", what, "leave it out of the query"));
                }
                Some(_) if given[..at].iter().any(|before| before.name == column.name) => {
                    let what = format!("the query gives `{name}` twice");
                    problems.push(problem("query", what, "give each column of green once"));
                }
                Some(_) => {}
            }
        }
        let is_given = |name: &Ident| given.iter().find(|column| column.name == *name);
        for column in green.columns.iter().filter(|it| it.must_be_given && is_given(&it.name).is_none()) {
            let what = format!(
                "{target}.{} on green is NOT NULL without a default, and the query does not give it",
                column.name.as_str()
            );
            problems.push(problem("query", what, "give it in the query, or a default on green"));
        }
        problems.extend(self.problems_of_key(green, given));
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(self.joined(green, given))
    }

    fn problems_of_key(&self, green: &GreenTable, given: &[Given]) -> Vec<Problem> {
        let target = self.green.plain();
        let mut problems = Vec::new();
        for name in self.join.key.iter().filter(|name| !given.iter().any(|column| column.name == **name)) {
            let what = format!("the query does not give `{}`, which is in the key", name.as_str());
            problems.push(problem("key", what, "the key's columns are among those of the query"));
        }
        let mut wanted: Vec<&Ident> = self.join.key.iter().collect();
        wanted.sort();
        let is_key = |columns: &Vec<Ident>| {
            let mut columns: Vec<&Ident> = columns.iter().collect();
            columns.sort();
            columns == wanted
        };
        if !green.unique.iter().any(is_key) {
            let names: Vec<&str> = self.join.key.iter().map(Ident::as_str).collect();
            let what = format!(
                "{target} on green has no primary key and no unique index of just these NOT NULL columns: {}",
                names.join(", ")
            );
            problems.push(problem("key", what, "add one on green, or name the columns of one that is there"));
        }
        problems
    }

    /// The types in which keys are compared, of a join that fits.
    pub fn compared_types(&self, joined: &Joined) -> Vec<String> {
        let of_rows = joined.key.iter().flat_map(|at| {
            let column = &joined.columns[*at];
            [column.given_type.clone(), column.green_type.clone()]
        });
        let of_sources = self.sources.iter().flat_map(|source| {
            source.blue.key.iter().filter_map(|name| Some(source.blue.column(name)?.type_name.clone()))
        });
        of_rows.chain(of_sources).collect()
    }

    fn joined(&self, green: &GreenTable, given: &[Given]) -> Joined {
        let column = |name: &Ident| green.columns.iter().find(|column| column.name == *name);
        let output = |given: &Given| JoinedColumn {
            name: given.name.clone(),
            green_type: column(&given.name).map(|it| it.type_name.clone()).unwrap_or_default(),
            given_type: given.type_name.clone(),
        };
        let columns: Vec<JoinedColumn> = given.iter().map(output).collect();
        let own = green
            .columns
            .iter()
            .filter(|column| !column.generated && !columns.iter().any(|it| it.name == column.name))
            .map(|column| column.name.clone())
            .collect();
        let place = |name: &Ident| columns.iter().position(|column| column.name == *name);
        let key = self.join.key.iter().filter_map(place).collect();
        Joined { green: self.green.clone(), columns, key, own, equalities: BTreeMap::new() }
    }
}

/// A join that fits green's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Green's table.
    pub green: TableName,
    /// The columns that the query gives, in its order.
    pub columns: Vec<JoinedColumn>,
    /// Those that tell rows apart.
    pub key: Vec<usize>,
    /// Further columns of green that can be written: they keep their values.
    pub own: Vec<Ident>,
    /// By type, the operator of its equality, when that is none of `pg_catalog`'s: what its indexes hold to be equal.
    pub equalities: BTreeMap<String, String>,
}

/// A column of a joined table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedColumn {
    /// Its name.
    pub name: Ident,
    /// Its type on green.
    pub green_type: String,
    /// The type that the query gives.
    pub given_type: String,
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
