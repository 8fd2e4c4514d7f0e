//! What no rule claims: a blocking finding with the form's name, its lock, and the way out.

use super::blocking;
use crate::{
    ddl::{catalogue, scene::Scene, source::Statement},
    finding::Finding,
};

pub(super) fn finding(statement: &Statement, _: &Scene) -> Finding {
    let form = catalogue::form_of(&statement.tree);
    let what = format!("{} cannot be run online by this version: {}", form.name, form.costs);
    blocking(statement, "DDL_NO_RULE", what, form.way_out)
}
