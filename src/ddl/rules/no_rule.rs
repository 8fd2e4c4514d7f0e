//! What no rule claims: a blocking finding with the form's name, its lock, and the way out.

use super::{backfill, blocking, query};
use crate::{
    ddl::{catalogue, parse::NodeEnum, scene::Scene, source::Statement},
    finding::Finding,
};

pub(super) fn finding(statement: &Statement, scene: &Scene) -> Finding {
    let form = catalogue::form_of(&statement.tree);
    let mut what = format!("{} cannot be run online by this version: {}", form.name, form.costs);
    if let Some(why) = backfill::hindrance(&statement.tree) {
        what = format!(
            "{} cannot be cut into batches, since {why}; whole, it would keep its locks on every row it touches until the last is done",
            form.name
        );
    }
    if let Some(called) = called(statement, scene) {
        what = format!("{} calls {called}(), whose effect cannot be seen", form.name);
    }
    blocking(statement, "DDL_NO_RULE", what, form.way_out)
}

/// The function for which a query cannot be run.
fn called(statement: &Statement, scene: &Scene) -> Option<String> {
    matches!(statement.tree, NodeEnum::SelectStmt(_))
        .then(|| query::unknown_function(statement, scene))
        .flatten()
}
