//! SET, RESET and set_config (see [`crate::ddl::session`]): `search_path` and what says how statements are read and what they
//! make is given to the session of each statement after it, what we set ourselves is left out, the rest is refused.

use super::{Outcome, Rule, blocking};
use crate::ddl::{
    parse::NodeEnum,
    scene::Scene,
    session::{self, Setting},
    source::Statement,
};

pub(super) const RULE: Rule = Rule {
    name: "session",
    about: "Each statement runs in a session of its own: search_path, and settings that say how a statement is read and what it makes by default, are set in each of them; what we set ourselves is left out, and every other setting is refused.",
    manual: "sql-set.html",
    apply: rule,
};

fn rule(statement: &Statement, _: &Scene) -> Option<Outcome> {
    match session::setting(&statement.tree) {
        None if matches!(statement.tree, NodeEnum::VariableSetStmt(_)) => refused(statement, "this SET"),
        None => None,
        Some(Setting::SearchPath(_) | Setting::Ours | Setting::Carried { .. } | Setting::Defaults) => {
            Some(Outcome::default())
        }
        Some(Setting::Other(name)) => refused(statement, &format!("SET {name}")),
    }
}

fn refused(statement: &Statement, what: &str) -> Option<Outcome> {
    Outcome::finding(blocking(
        statement,
        "DDL_SETTING",
        format!(
            "{what}: every statement runs in a session of its own, and this setting is not carried there"
        ),
        "Remove it, or write the effect into the statements themselves (a tablespace, an owner).",
    ))
}
