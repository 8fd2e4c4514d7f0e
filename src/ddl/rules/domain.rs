//! ALTER DOMAIN: a new constraint reads every table that uses the domain under SHARE, also when it is only validated.

use super::{Outcome, Rule, as_written, blocking, expand::listed};
use crate::ddl::{
    lock::Cost,
    parse::{self, NodeEnum},
    scene::Scene,
    source::Statement,
};

const RECIPE: &str = "domain";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A new constraint of a domain reads every table that uses it under SHARE, also when it is only validated, so it is refused with the way out.",
    manual: "sql-alterdomain.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterDomainStmt(alter) = &statement.tree else { return None };
    let parts = parse::strings(&alter.type_name);
    let name = parts.join(".");
    let reads = match alter.subtype.as_str() {
        // SET NOT NULL and VALIDATE CONSTRAINT; measured: VALIDATE takes SHARE as well.
        "O" | "V" => true,
        "C" => !matches!(
            alter.def.as_ref().and_then(|def| def.node.as_ref()),
            Some(NodeEnum::Constraint(constraint)) if constraint.skip_validation
        ),
        _ => false,
    };
    let seen = scene.user_type(&parts, &statement.search_path);
    let users = seen.map(|one| scene.columns_of(one)).unwrap_or_default();
    let made_here = parts.last().is_some_and(|name| scene.is_plain_type(name)) && seen.is_none();
    let unused = made_here || seen.is_some() && users.is_empty();
    if reads && !unused {
        let tables = match seen {
            Some(_) => {
                listed(users.iter().map(|(table, column)| format!("{}.{}", table.plain(), column.as_str())))
            }
            None => "the tables that use it".to_owned(),
        };
        return Outcome::finding(blocking(
            statement,
            "DDL_NO_RULE",
            format!(
                "ALTER DOMAIN {name} cannot be run online: {tables} are read under SHARE, all at once, and writers wait"
            ),
            "Leave the domain as it is, and give each table a CHECK: ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT.",
        ));
    }
    let mut step = as_written(statement, RECIPE, format!("alter domain {name}"), Cost::default());
    step.why = if reads {
        "nothing uses it, so nothing is read"
    } else {
        "only the catalog changes, and no table is locked"
    }
    .into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn what_would_read_the_tables_is_refused() {
        for sql in [
            "alter domain pos add constraint k check (value > 0)",
            "alter domain pos set not null",
            "alter domain pos validate constraint k",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
            assert_eq!(told(sql, None), ["blocking DDL_NO_RULE"], "{sql}");
        }
    }

    #[test]
    fn the_rest_locks_nothing() {
        for sql in [
            "alter domain pos add constraint k check (value > 0) not valid",
            "alter domain pos drop constraint k",
            "alter domain pos drop not null",
            "alter domain pos set default 1",
            "alter domain idle set not null",
        ] {
            assert_eq!(on_live(sql), [format!("catalog, no lock: {sql}")], "{sql}");
        }
    }
}
