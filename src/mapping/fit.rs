//! Holding a map against both tables: what each column of green becomes, or every reason why it does not fit.

use super::expression::Expression;
use super::wanted::{GreenColumn, GreenTable, Mapping};
use crate::error::{Error, Kind};
use crate::finding::suggest;
use crate::pg::name::{Ident, TableName};
use std::collections::BTreeSet;

/// A mapping that fits both tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// Blue's table; its bare name is what expressions may call its row.
    pub blue: TableName,
    /// Green's table.
    pub green: TableName,
    /// The columns of blue that something needs, in blue's order.
    pub sources: Vec<Source>,
    /// The columns of green that we write, in green's order.
    pub outputs: Vec<Output>,
    /// Which rows are on green, and the sources it needs; all when there is none.
    pub condition: Option<(Expression, Vec<usize>)>,
    /// The outputs that tell a row of green apart.
    pub key: Vec<usize>,
    /// Every column of green that can be written is.
    pub covers_green: bool,
    /// Changes of blue tell the whole row before.
    pub tells_all: bool,
}

/// A column of blue that something needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: Ident,
    /// Its type on blue.
    pub type_name: String,
}

/// A column of green that we write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: Ident,
    /// Its type on green.
    pub type_name: String,
    /// An update cannot set it, and checks that it keeps its value.
    pub identity_always: bool,
    /// Its value.
    pub expression: Expression,
    /// The sources that it needs.
    pub uses: Vec<usize>,
}

/// Why a map does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field below the table's map: `columns.name`, `drop[0]`, `where`, `to`; empty for the map itself.
    pub field: String,
    /// What is wrong, one sentence.
    pub what: String,
    /// What to do.
    pub help: String,
}

pub(super) fn problem(field: impl Into<String>, what: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { field: field.into(), what: what.into(), help: help.into() }
}

/// One error for all problems of a table.
pub fn as_error(blue: &TableName, problems: &[Problem]) -> Error {
    let list: Vec<_> = problems.iter().map(|problem| problem.what.as_str()).collect();
    let error = Error::new(
        Kind::Gate,
        format!("the mapping of {} does not fit green: {}", blue.plain(), list.join("; ")),
    );
    match problems.first() {
        Some(first) => error.hint(first.help.clone()),
        None => error,
    }
}

fn lost(blue: &TableName, column: &str) -> Problem {
    problem(
        "",
        format!("column `{column}` of {} has no place on green and would be lost", blue.plain()),
        format!("use it in an expression, or say that it goes: `drop: [{column}]`"),
    )
}

/// Columns of a table that none of the parts it is split into uses, and none drops.
pub fn lost_in_split(parts: &[(Mapping, Fitted)]) -> Vec<Problem> {
    let Some((first, _)) = parts.first().filter(|(first, _)| first.part.is_some()) else {
        return Vec::new();
    };
    let is_kept = |name: &Ident| {
        parts.iter().any(|(mapping, fitted)| {
            let is_used = fitted.outputs.iter().any(|output| output.expression.uses().contains(name));
            is_used || mapping.map.drop.contains(name)
        })
    };
    let columns = first.blue.columns.iter().filter(|column| !column.generated && !is_kept(&column.name));
    columns.map(|column| lost(&first.blue.name, column.name.as_str())).collect()
}

const FULL_HELP: &str = "`alter table … replica identity full` on blue, so that a change tells the whole row";

impl Mapping {
    /// What can be said before green has its shape.
    pub fn problems_on_blue(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.blue.is_whole {
            problems.push(problem(
                "",
                format!(
                    "{} is partitioned, a partition or foreign, and mapping those is not built yet",
                    self.blue.name.plain()
                ),
                "exclude it, or give it the same shape on both sides",
            ));
        } else if self.blue.key.is_empty() {
            problems.push(problem(
                "",
                format!("{} has nothing that names a row, so a mapped row cannot be found again", self.blue.name.plain()),
                "give it a primary key, or a unique index of NOT NULL columns with `replica identity full` or `using index`",
            ));
        }
        self.read_columns(&mut problems);
        self.read_condition(&mut problems);
        self.check_drop(&mut problems);
        problems
    }

    /// Holds the map against green's table.
    ///
    /// # Errors
    /// Every reason why it does not fit, in the order of the map.
    pub fn fit(&self, green: &GreenTable) -> Result<Fitted, Vec<Problem>> {
        self.fit_with(green, |written, problems| self.key(green, written, problems))
    }

    /// As [`Mapping::fit`] for the copy, during which green's keys are away: rows can be written, and not found again.
    ///
    /// # Errors
    /// As [`Mapping::fit`].
    pub fn fit_for_copy(&self, green: &GreenTable) -> Result<Fitted, Vec<Problem>> {
        self.fit_with(green, |_, _| Vec::new())
    }

    fn fit_with(
        &self,
        green: &GreenTable,
        find_key: impl FnOnce(&[(&GreenColumn, Expression)], &mut Vec<Problem>) -> Vec<usize>,
    ) -> Result<Fitted, Vec<Problem>> {
        let mut problems = self.problems_on_blue();
        let target = self.map.target(&self.blue.name);
        if green.columns.is_empty() {
            problems.push(problem(
                "to",
                format!("green has no table {}", target.plain()),
                "create it on green, or say with `to` what it is called there",
            ));
            return Err(problems);
        }
        let written = self.written(green, &mut problems);
        self.refuse_lost_columns(&written, &mut problems);
        let condition = self.map.condition.as_deref().and_then(|text| Expression::read(text).ok());
        self.refuse_unsent(&written, condition.as_ref(), &mut problems);
        let key = find_key(&written, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let needs = |name: &Ident| {
            let by = |expression: &Expression| expression.uses().contains(name);
            written.iter().any(|(_, expression)| by(expression)) || condition.as_ref().is_some_and(by)
        };
        let needed = self.blue.columns.iter().filter(|column| needs(&column.name));
        let sources: Vec<Source> = needed
            .map(|column| Source { name: column.name.clone(), type_name: column.type_name.clone() })
            .collect();
        let places = |expression: &Expression| -> Vec<usize> {
            (0..sources.len()).filter(|at| expression.uses().contains(&sources[*at].name)).collect()
        };
        let output = |(column, expression): (&GreenColumn, Expression)| Output {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            identity_always: column.identity_always,
            uses: places(&expression),
            expression,
        };
        let outputs: Vec<Output> = written.into_iter().map(output).collect();
        let is_written = |column: &GreenColumn| outputs.iter().any(|output| output.name == column.name);
        Ok(Fitted {
            blue: self.blue.name.clone(),
            green: target,
            covers_green: green.columns.iter().all(|column| column.generated || is_written(column)),
            condition: condition.map(|condition| (condition.clone(), places(&condition))),
            sources,
            outputs,
            key,
            tells_all: self.blue.tells_all,
        })
    }

    /// The expressions of the map, each held against blue's columns.
    fn read_columns(&self, problems: &mut Vec<Problem>) {
        for (name, text) in &self.map.columns {
            self.read(&format!("columns.{}", name.as_str()), text, problems);
        }
    }

    fn read_condition(&self, problems: &mut Vec<Problem>) {
        let Some(text) = &self.map.condition else { return };
        let Some(condition) = self.read("where", text, problems) else { return };
        let untold: Vec<_> =
            condition.uses().iter().filter(|name| !self.blue.tells_before(name)).map(Ident::as_str).collect();
        if !untold.is_empty() {
            let what = format!(
                "the condition needs {}, which a change of {} does not tell of the row before, so nobody knows whether that row is on green",
                untold.join(", "),
                self.blue.name.plain()
            );
            problems.push(problem("where", what, FULL_HELP));
        }
    }

    fn read(&self, field: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Expression> {
        let expression = match Expression::read(text) {
            Ok(expression) => expression,
            Err(unreadable) => {
                let help = "write one SQL expression over blue's columns";
                problems.push(problem(field, unreadable.what, help));
                return None;
            }
        };
        for name in expression.uses() {
            match self.blue.column(name) {
                None => problems.push(problem(
                    field,
                    format!("{} on blue has no column `{}`", self.blue.name.plain(), name.as_str()),
                    nearest(name.as_str(), self.blue.columns.iter().map(|column| column.name.as_str())),
                )),
                Some(column) if column.generated => problems.push(problem(
                    field,
                    format!("`{}` is generated on blue, and no change of a row tells it", name.as_str()),
                    "write its expression instead of its name",
                )),
                Some(_) => {}
            }
        }
        Some(expression)
    }

    fn check_drop(&self, problems: &mut Vec<Problem>) {
        for (at, name) in self.map.drop.iter().enumerate() {
            let field = format!("drop[{at}]");
            if self.blue.column(name).is_none() {
                let what = format!("{} on blue has no column `{}`", self.blue.name.plain(), name.as_str());
                let known = self.blue.columns.iter().map(|column| column.name.as_str());
                problems.push(problem(field, what, nearest(name.as_str(), known)));
            } else if self.map.renamed().any(|old| old == *name) {
                let what = format!("`{}` is dropped, and renamed as well", name.as_str());
                problems.push(problem(field, what, "keep one of the two"));
            }
        }
    }

    /// Each column of green that is written, with its expression.
    fn written<'g>(
        &self,
        green: &'g GreenTable,
        problems: &mut Vec<Problem>,
    ) -> Vec<(&'g GreenColumn, Expression)> {
        let target = self.map.target(&self.blue.name).plain();
        for name in self.map.columns.keys() {
            let field = format!("columns.{}", name.as_str());
            match green.columns.iter().find(|column| column.name == *name) {
                None => problems.push(problem(
                    field,
                    format!("{target} on green has no column `{}`", name.as_str()),
                    nearest(name.as_str(), green.columns.iter().map(|column| column.name.as_str())),
                )),
                Some(column) if column.generated => problems.push(problem(
                    field,
                    format!("green computes {target}.{} by itself", name.as_str()),
                    "remove this line",
                )),
                Some(_) => {}
            }
        }
        let renamed: BTreeSet<Ident> = self.map.renamed().collect();
        let mut written = Vec::new();
        for column in green.columns.iter().filter(|column| !column.generated) {
            let expression = match self.map.columns.get(&column.name) {
                Some(text) => Expression::read(text).ok(),
                None => self
                    .blue
                    .column(&column.name)
                    .filter(|blue| {
                        !blue.generated
                            && !renamed.contains(&blue.name)
                            && !self.map.drop.contains(&blue.name)
                    })
                    .map(|blue| Expression::column(&blue.name)),
            };
            match expression {
                Some(expression) => written.push((column, expression)),
                None if column.must_be_given && !self.map.columns.contains_key(&column.name) => {
                    let name = column.name.as_str();
                    problems.push(problem(
                        format!("columns.{name}"),
                        format!("{target}.{name} on green is NOT NULL without a default, and nothing gives it a value"),
                        "give it an expression here, or a default on green",
                    ));
                }
                None => {}
            }
        }
        written
    }

    /// A column of blue that no expression needs must be given up by name; [`lost_in_split`] looks at all parts of a split.
    fn refuse_lost_columns(&self, written: &[(&GreenColumn, Expression)], problems: &mut Vec<Problem>) {
        if self.part.is_some() {
            return;
        }
        for column in self.blue.columns.iter().filter(|column| !column.generated) {
            let is_used = written.iter().any(|(_, expression)| expression.uses().contains(&column.name));
            if !is_used && !self.map.drop.contains(&column.name) {
                let name = column.name.as_str();
                problems.push(lost(&self.blue.name, name));
            }
        }
    }

    /// An update does not send a value that is stored out of line and was left alone. A column of green that is computed from
    /// it alone keeps its own value then; one that needs others too would have to be computed anew, and cannot.
    fn refuse_unsent(
        &self,
        written: &[(&GreenColumn, Expression)],
        condition: Option<&Expression>,
        problems: &mut Vec<Problem>,
    ) {
        if self.blue.tells_all {
            return;
        }
        let unsent = |expression: &Expression| {
            let by_name = |name: &&Ident| {
                !self.blue.key.contains(name)
                    && self.blue.column(name).is_some_and(|column| column.may_be_unsent())
            };
            expression.uses().iter().find(by_name).cloned()
        };
        for (column, expression) in written {
            let Some(name) = unsent(expression) else { continue };
            let field = format!("columns.{}", column.name.as_str());
            let of = format!("`{}` of {}", name.as_str(), self.blue.name.plain());
            if condition.is_some() {
                let what = format!(
                    "{of} may be a value that an update does not send, and a row that moves into the condition needs all of it"
                );
                problems.push(problem(field, what, FULL_HELP));
            } else if expression.uses().len() > 1 {
                let what = format!(
                    "{of} may be a value that an update does not send, and the expression needs other columns besides"
                );
                problems.push(problem(field, what, FULL_HELP));
            }
        }
    }

    /// The outputs that tell a row of green apart: the first key of green's that is made of what blue tells of a row before
    /// its change.
    fn key(
        &self,
        green: &GreenTable,
        written: &[(&GreenColumn, Expression)],
        problems: &mut Vec<Problem>,
    ) -> Vec<usize> {
        let target = self.map.target(&self.blue.name).plain();
        let told = |name: &Ident| {
            let at = written.iter().position(|(column, _)| column.name == *name)?;
            written[at].1.uses().iter().all(|used| self.blue.tells_before(used)).then_some(at)
        };
        let found = green.unique.iter().find_map(|key| key.iter().map(told).collect::<Option<Vec<usize>>>());
        let names_a_row = |key: &Vec<usize>| key.iter().any(|at| !written[*at].1.uses().is_empty());
        if let Some(key) = found.filter(names_a_row) {
            return key;
        }
        let (what, help) = match green.unique.first() {
            None => (
                format!(
                    "{target} on green has no primary key and no unique index of NOT NULL columns, so a mapped row cannot be found again"
                ),
                "add one on green".to_owned(),
            ),
            Some(first) => {
                let names: Vec<_> = first.iter().map(Ident::as_str).collect();
                let what = format!(
                    "the key of {target} on green ({}) is not made of columns that a change on blue tells of the row before",
                    names.join(", ")
                );
                (what, FULL_HELP.to_owned())
            }
        };
        problems.push(problem("", what, help));
        Vec::new()
    }
}

/// The name that was probably meant, else all of them.
fn nearest<'n>(word: &str, known: impl Iterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.collect();
    suggest(word, &known, "it has")
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
