//! DDL made online: the operator's SQL files in, an ordered list of statements that a live database can bear out.
//!
//! [`source`] cuts files into statements with places, [`parse`] gives their trees, `fold` finds what belongs together, a rule
//! of `rules` (one a file) turns each into its online form by editing the operator's own text, and what no rule claims is a
//! blocking finding with its cost and way out from the `catalogue`. Nothing here touches a server;
//! `step::ddl` runs the result.

mod catalogue;
mod cursor;
mod edit;
mod fold;
pub mod lock;
pub mod parse;
mod psql;
mod rules;
mod scene;
mod session;
pub mod source;
pub mod statement;

use crate::{
    error::Error,
    facts::ServerFacts,
    finding::{Finding, Place, Severity},
    pg::name::Ident,
};
use fold::Unit;
use scene::Scene;
use session::Setting;
use std::collections::BTreeMap;

pub use source::SqlFile;
pub use statement::{Online, Rewritten};

/// Rewrites the files, in order, as one plan. `live` is the database they will run on; `None` when nobody looked, and then the
/// worst is assumed: every table not made here is in use.
///
/// The result depends on what `live` shows of partitions and indexes. A run that resumes must use the list it began with, not
/// a new one made from a database that is halfway.
pub fn rewrite(files: &[SqlFile], live: Option<&ServerFacts>) -> Rewritten {
    let mut result = Rewritten::default();
    let mut statements = Vec::new();
    for file in files {
        match source::statements(file) {
            Ok((mut found, remarks)) => {
                assign_search_paths(&mut found);
                statements.extend(found);
                result.findings.extend(remarks);
            }
            Err(error) => result.findings.push(error.finding),
        }
    }
    if live.is_none() && !statements.is_empty() {
        result.findings.insert(0, offline(&statements[0].place));
    }
    let mut scene = Scene::new(live);
    for unit in fold::units(statements) {
        let outcome = of_unit(&unit, &mut scene);
        result.statements.extend(outcome.steps);
        result.findings.extend(outcome.findings);
    }
    number_duplicates(&mut result.statements);
    result
}

/// The first thing wrong with a file, with the line and a caret; `None` when it can be read.
pub fn explain_error(file: &SqlFile) -> Option<Error> {
    source::statements(file).err().map(|error| source::explain(file, &error))
}

fn of_unit(unit: &Unit, scene: &mut Scene) -> rules::Outcome {
    match unit {
        Unit::One(statement) => {
            let outcome = rules::apply(statement, scene);
            scene.learn(&statement.tree, &statement.search_path);
            outcome
        }
        Unit::Swap { drop, create, index } => {
            let both = || {
                let mut outcome = rules::apply(drop, scene);
                let second = rules::apply(create, scene);
                outcome.steps.extend(second.steps);
                outcome.findings.extend(second.findings);
                outcome
            };
            rules::swap_index::rule(drop, create, index, scene).unwrap_or_else(both)
        }
        Unit::Gap { drop, create_place, between } => {
            let mut outcome = rules::apply(drop, scene);
            outcome.findings.push(Finding {
                code: "DDL_INDEX_GAP".into(),
                severity: Severity::Warning,
                place: drop.place.clone(),
                what: format!("the index is dropped here and made again at {create_place}; {between} stands between, so the table is without it meanwhile"),
                help: "Put DROP INDEX right before CREATE INDEX: then the new one is built first and takes the old one's name.".into(),
            });
            outcome
        }
    }
}

/// Every file begins with the default path; SET in it holds until its end.
fn assign_search_paths(statements: &mut [source::Statement]) {
    let default = || vec![Ident::new("public")];
    let mut path = default();
    for statement in statements {
        if let Some(Setting::SearchPath(changed)) = session::setting(&statement.tree) {
            path = changed.unwrap_or_else(default);
        }
        statement.search_path.clone_from(&path);
    }
}

fn offline(place: &Place) -> Finding {
    Finding {
        code: "DDL_OFFLINE".into(),
        severity: Severity::Info,
        place: place.clone(),
        what: "planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen".into(),
        help: "Plan again with the database (or a facts file) before running it.".into(),
    }
}

/// Two steps of the same name get `-2`, `-3`, in order.
fn number_duplicates(statements: &mut [Online]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for statement in statements {
        let count = seen.entry(statement.id.clone()).or_default();
        *count += 1;
        if *count > 1 {
            statement.id = format!("{}-{count}", statement.id);
        }
    }
}

#[cfg(test)]
mod tests;
