//! One statement written as several, each judged by its own rule in the scene that those before it leave.

use super::{Outcome, blocking};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    online, parse,
    scene::{Known, Scene},
    source::Statement,
};
use crate::pg::name::TableName;

/// The statements in place of `statement`, in order. One that cannot run online stops all of them.
pub(super) fn in_turn(
    statement: &Statement,
    scene: &Scene,
    recipe: &str,
    sqls: &[String],
) -> Option<Outcome> {
    let mut scene = scene.clone();
    let mut all = Outcome::default();
    let mut refused = false;
    for sql in sqls {
        let one = derived(statement, sql.clone())?;
        let mut outcome = online(&one, &mut scene, 1);
        refused |= outcome.steps.is_empty();
        for step in &mut outcome.steps {
            step.recipe = recipe.to_owned();
        }
        all.steps.append(&mut outcome.steps);
        all.findings.append(&mut outcome.findings);
    }
    if refused && crate::finding::any_blocking(&all.findings) {
        all.steps.clear();
    }
    Some(all)
}

/// A statement of ours in the place of the operator's.
pub(super) fn derived(statement: &Statement, sql: String) -> Option<Statement> {
    let tree = parse::parse_one(&sql).ok()?;
    Some(Statement { sql, tree, ..statement.clone() })
}

/// What the statement would have cost as it was written, told with the first step in its place.
pub(super) fn instead_of(outcome: Option<Outcome>, was: Cost) -> Option<Outcome> {
    let mut outcome = outcome?;
    if let Some(first) = outcome.steps.first_mut() {
        first.was = Some(was);
    }
    Some(outcome)
}

/// ACCESS EXCLUSIVE on a relation.
pub(super) fn exclusive(relation: &TableName, role: LockRole) -> LockTaken {
    LockTaken { relation: relation.clone(), mode: LockMode::AccessExclusive, role }
}

/// What the other table of a foreign key is locked with, and its partitions; nothing when nobody uses it yet.
pub(super) fn referenced(scene: &Scene, relation: &TableName, mode: LockMode) -> Vec<LockTaken> {
    if matches!(scene.relation(relation), Known::New) {
        return Vec::new();
    }
    let lock = |relation: &TableName, role| LockTaken { relation: relation.clone(), mode, role };
    let partitions = scene.all_partitions(relation).into_iter();
    let partitions = partitions.map(|part| lock(&part.name, LockRole::Partition));
    std::iter::once(lock(relation, LockRole::Referenced)).chain(partitions).collect()
}

/// CASCADE, when nobody has looked what depends on the thing.
pub(super) fn cascade_unseen(statement: &Statement, what: &str) -> Option<Outcome> {
    Outcome::finding(blocking(
        statement,
        "DDL_CASCADE",
        format!(
            "{what} … CASCADE: what falls with it can only be seen on the database, and each takes a lock of its own"
        ),
        "Plan with the database, then it is written out; or drop what depends on it first, one statement each, without CASCADE.",
    ))
}

/// What the server would refuse.
pub(super) fn fails(statement: &Statement, what: String, help: &str) -> Option<Outcome> {
    Outcome::finding(blocking(statement, "DDL_FAILS", what, help))
}

/// `a, b and c`, for messages.
pub(super) fn listed<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => String::new(),
    }
}
