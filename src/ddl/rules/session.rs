//! SET, RESET and set_config: `search_path` is understood (see [`crate::ddl::session`]), what we set ourselves is left out, the rest is refused.

use super::{Outcome, Rule, blocking};
use crate::ddl::{
    parse::NodeEnum,
    scene::Scene,
    session::{self, Setting},
    source::Statement,
};

pub(super) const RULE: Rule = Rule {
    name: "session",
    about: "SET search_path is understood, what we set ourselves is left out, and every other setting is refused, since each statement runs in a session of its own.",
    manual: "sql-set.html",
    apply: rule,
};

fn rule(statement: &Statement, _: &Scene) -> Option<Outcome> {
    match session::setting(&statement.tree) {
        None if matches!(statement.tree, NodeEnum::VariableSetStmt(_)) => refused(statement, "this SET"),
        None => None,
        Some(Setting::SearchPath(_) | Setting::Ours) => Some(Outcome::default()),
        Some(Setting::Other(name)) => refused(statement, &format!("SET {name}")),
    }
}

fn refused(statement: &Statement, what: &str) -> Option<Outcome> {
    Outcome::finding(blocking(
        statement,
        "DDL_SETTING",
        format!("{what}: every statement runs in a session of its own, so this would not reach the next one"),
        "Remove it, or write the effect into the statements themselves (a tablespace, an owner).",
    ))
}
