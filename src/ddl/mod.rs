//! DDL made online: the operator's SQL files in, an ordered list of statements that a live database can bear out.
//!
//! [`source`] cuts files into statements with places, [`parse`] gives their trees, `fold` finds what belongs together, a rule
//! of `rules` (one a file) turns each into its online form by editing the operator's own text, and what no rule claims is a
//! blocking finding with its cost and way out from the `catalogue`. Nothing here touches a server;
//! `step::ddl` runs the result.

pub mod as_written;
mod block;
mod catalogue;
pub mod compat;
mod condition;
mod cursor;
pub mod directory;
mod edit;
pub mod encoding;
mod fold;
mod foreign;
mod lines;
pub mod lock;
mod long_name;
mod merge;
pub mod parse;
mod parts;
mod psql;
mod read_ahead;
mod recipe;
mod rules;
mod scene;
mod session;
pub mod source;
pub mod statement;
mod together;
mod types;
mod unwrapped;
mod view_around;
mod volatility;

use crate::{
    error::Error,
    facts::ServerFacts,
    finding::{Finding, Place, Severity, any_blocking},
};
use fold::Unit;
use scene::Scene;
use std::collections::{BTreeMap, BTreeSet};

pub use session::{Holds, Settings, entered};
pub use source::SqlFile;
pub use statement::{Online, Rewritten};

/// Rewrites the files, in order, as one plan. `live` is the database they will run on; `None` when nobody looked, and then the
/// worst is assumed: every table not made here is in use.
///
/// The result depends on what `live` shows of partitions and indexes. A run that resumes must use the list it began with, not
/// a new one made from a database that is halfway.
pub fn rewrite(files: &[SqlFile], live: Option<&ServerFacts>) -> Rewritten {
    let mut result = read_ahead::each(files, |read| {
        let mut of_files = Vec::new();
        let mut first = None;
        let statements = read.flat_map(|file| {
            of_files.extend(file.findings);
            if first.is_none() {
                first = file.statements.first().map(|statement| statement.place.clone());
            }
            file.statements
        });
        let mut scene = Scene::new(live);
        let mut done = rules::Outcome::default();
        for unit in fold::units(statements) {
            let outcome = of_unit(&unit, &mut scene);
            done.steps.extend(outcome.steps);
            done.findings.extend(outcome.findings);
        }
        let unseen = first.filter(|_| live.is_none()).map(|place| offline(&place));
        let findings = unseen.into_iter().chain(of_files).chain(done.findings).collect();
        Rewritten { statements: done.steps, findings }
    });
    merge::columns(&mut result.statements);
    together::join(&mut result);
    number_duplicates(&mut result.statements);
    result
}

/// A way to do a statement online, as its page tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// As [`Online::recipe`] has it.
    pub name: &'static str,
    /// What it does and why, a sentence.
    pub about: &'static str,
    /// Its page in PostgreSQL's manual.
    pub manual: &'static str,
}

/// Every way there is, sorted by name.
pub fn ways() -> Vec<Way> {
    let rules =
        rules::RULES.iter().map(|rule| Way { name: rule.name, about: rule.about, manual: rule.manual });
    let recipes = recipe::RECIPES.iter().map(|recipe| Way {
        name: recipe.name,
        about: recipe.about,
        manual: recipe.manual,
    });
    let mut ways: Vec<Way> =
        rules.chain(recipes).chain([rules::swap_index::WAY, compat::WAY]).chain(together::WAYS).collect();
    ways.sort_by_key(|way| way.name);
    ways
}

/// The first thing wrong with a file, with the line and a caret; `None` when it can be read.
pub fn explain_error(file: &SqlFile) -> Option<Error> {
    source::statements(file).err().map(|error| source::explain(file, &error))
}

/// As [`explain_error`] for files that were rewritten already: only those that could not be read are read again.
pub fn explain_unreadable(files: &[SqlFile], rewritten: &Rewritten) -> Option<Error> {
    let unread: BTreeSet<&str> = rewritten
        .findings
        .iter()
        .filter(|finding| {
            finding.severity == Severity::Blocking && source::UNREADABLE.contains(&finding.code.as_str())
        })
        .filter_map(|finding| match &finding.place {
            Place::Sql { file, .. } => Some(file.as_str()),
            _ => None,
        })
        .collect();
    files.iter().filter(|file| unread.contains(file.name.as_str())).find_map(explain_error)
}

fn of_unit(unit: &Unit, scene: &mut Scene) -> rules::Outcome {
    match unit {
        Unit::One(statement) if view_around::parts(statement, scene).is_some() => {
            under_views(statement, scene)
        }
        Unit::One(statement) => online(statement, scene, 0),
        Unit::Constraint { drop, add, both } => {
            let mut outcome = online(both, scene, 0);
            for step in &mut outcome.steps {
                step.from = vec![drop.place.clone(), add.place.clone()];
            }
            outcome
        }
        Unit::ConstraintGap { drop, add_place, between } => {
            let mut outcome = online(drop, scene, 0);
            outcome.findings.push(Finding {
                code: "DDL_CONSTRAINT_GAP".into(),
                severity: Severity::Warning,
                place: drop.place.clone(),
                what: format!("the constraint is dropped here and added again at {add_place}; {between} stands between, so nothing holds the rows to it meanwhile"),
                help: "Put ADD CONSTRAINT right after DROP CONSTRAINT: then the new one is proved first and takes the old one's name.".into(),
            });
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

/// Recipes nest: a column with a key has a NOT NULL in it, which has a CHECK. Deeper than this would be a fault of ours.
const DEEPEST: u32 = 8;

/// A statement taken apart by its recipe, if it has one, and each part by its own; what is in its final form meets its rule.
fn online(statement: &source::Statement, scene: &mut Scene, depth: u32) -> rules::Outcome {
    let expansion = if depth < DEEPEST { recipe::expand(statement, scene) } else { None };
    match expansion {
        None => {
            let outcome = rules::apply(statement, scene);
            if let Some((table, column, sql)) = rules::backfill::fills(statement, scene) {
                scene.learn_fill(&table, &column, &sql);
            }
            scene.learn_outcome(statement, outcome.steps.iter().map(|step| step.sql.as_str()));
            outcome
        }
        Some(recipe::Expansion::Refused(findings)) => rules::Outcome { steps: Vec::new(), findings },
        Some(recipe::Expansion::Becomes { statements, at_once, recipe, findings }) => {
            let was = rules::alter_table::cost(statement, scene);
            let mut outcome = rules::Outcome::default();
            for part in &statements {
                let done = online(part, scene, depth + 1);
                outcome.steps.extend(done.steps);
                outcome.findings.extend(done.findings);
            }
            let swapped = in_one_transaction(&at_once, scene, depth + 1);
            if !at_once.is_empty() {
                // What its parts tell of things in between is over when it is done.
                outcome.findings.retain(|finding| finding.severity != Severity::Info);
            }
            outcome.steps.extend(swapped.steps);
            outcome.findings.extend(swapped.findings);
            for step in &mut outcome.steps {
                step.recipe = recipe.name.into();
                step.why = format!("{}; {}", step.why, recipe.why);
                step.was.clone_from(&was);
            }
            outcome.findings.extend(findings);
            outcome
        }
    }
}

/// Statements that run in one transaction. What clients would notice of each is for the recipe to say, since they see the end
/// only. One that is no matter of a moment stops the plan: left out, it would leave what was begun before it half done.
fn in_one_transaction(statements: &[source::Statement], scene: &mut Scene, depth: u32) -> rules::Outcome {
    let mut outcome = rules::Outcome::default();
    for statement in statements {
        let one = online(statement, scene, depth);
        outcome.steps.extend(one.steps);
        let blocking = one.findings.into_iter().filter(|finding| finding.severity == Severity::Blocking);
        outcome.findings.extend(blocking);
    }
    let joined = together::at_once(outcome.steps);
    if let (None, Some(first), false) = (&joined, statements.first(), any_blocking(&outcome.findings)) {
        outcome.findings.push(Finding {
            code: "DDL_NO_RULE".into(),
            severity: Severity::Blocking,
            place: first.place.clone(),
            what: "its last part must run in one transaction, and takes longer than others can be made to wait".into(),
            help: "Write the statement in parts that can run one after the other, or use a blue-green migration.".into(),
        });
    }
    outcome.steps = joined.into_iter().collect();
    outcome
}

/// A change of type with the views over it taken away and made again; refused when it is more than a moment's work, since they
/// would be away meanwhile.
fn under_views(statement: &source::Statement, scene: &mut Scene) -> rules::Outcome {
    let mut outcome = rules::Outcome::default();
    let mut brief = true;
    for part in view_around::parts(statement, scene).unwrap_or_default() {
        let one = of_unit(&Unit::One(Box::new(part)), scene);
        brief &= matches!(one.steps.as_slice(), [step] if step.class != statement::Class::Concurrent && !step.cost.scan);
        outcome.steps.extend(one.steps);
        outcome.findings.extend(one.findings);
    }
    if !brief && !any_blocking(&outcome.findings) {
        outcome.findings.push(Finding {
            code: "DDL_FAILS".into(),
            severity: Severity::Blocking,
            place: statement.place.clone(),
            what: "the server refuses to change the type of a column that a view reads, and the change takes longer than the view can be away".into(),
            help: "Add a column of the new type and let the view read that (CREATE OR REPLACE VIEW cannot change a type: make a second view for new clients).".into(),
        });
    }
    outcome
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
mod properties;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
