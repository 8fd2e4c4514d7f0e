//! DROP SCHEMA … CASCADE: written out as the views, tables and sequences in it, one by one, then the empty schema.

use super::{
    Outcome, Rule, as_written, blocking,
    expand::{cascade_unseen, in_turn},
    warning,
};
use crate::ddl::{
    lock::Cost,
    parse::{
        self, NodeEnum,
        node::{DropBehavior, ObjectType},
    },
    scene::Scene,
    source::Statement,
};

const RECIPE: &str = "drop_schema";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "DROP SCHEMA … CASCADE is written out as the views, tables and sequences in it, one by one.",
    manual: "sql-dropschema.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let drop = match &statement.tree {
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectSchema => drop,
        NodeEnum::DropOwnedStmt(_) => {
            return Outcome::finding(blocking(
                statement,
                "DDL_OPAQUE",
                "DROP OWNED drops whatever a role owns, in one transaction, under ACCESS EXCLUSIVE on all of it at once".into(),
                "Drop the objects one by one, or give them to another role: ALTER … OWNER TO.",
            ));
        }
        _ => return None,
    };
    let names = parse::strings(&drop.objects);
    if drop.behavior() != DropBehavior::DropCascade {
        let mut step =
            as_written(statement, RECIPE, format!("drop schema {}", names.join(", ")), Cost::default());
        step.why = "the server refuses unless it is empty, so no table is locked".into();
        return Outcome::step(step);
    }
    if !scene.looked() {
        return cascade_unseen(statement, "DROP SCHEMA");
    }
    let mut sqls = Vec::new();
    for name in &names {
        if scene.holds_more_than_relations(name) {
            return Outcome::finding(blocking(
                statement,
                "DDL_CASCADE",
                format!(
                    "schema {name} holds functions, types or the like, and what rests on them in other schemas would fall as well"
                ),
                "Drop those functions and types first, one statement each; the tables, views and sequences are then dropped one by one here.",
            ));
        }
        sqls.extend(scene.relations_of_schema(name));
        let if_exists = if drop.missing_ok { "if exists " } else { "" };
        sqls.push(format!("drop schema {if_exists}{}", crate::pg::name::Ident::new(name)));
    }
    let mut outcome = in_turn(statement, scene, RECIPE, &sqls)?;
    // A view that fell with another one is found gone.
    outcome.steps.retain(|step| !step.cost.locks.is_empty() || step.sql.starts_with("drop schema"));
    outcome.findings.push(warning(
        statement,
        "DDL_CLIENT_VISIBLE",
        format!("schema {} and everything in it is gone for every client", names.join(", ")),
        "Release clients that do not use it first.",
    ));
    Some(outcome)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn what_is_in_it_is_dropped_one_by_one() {
        let steps = on_live("drop schema old cascade");
        assert_eq!(
            steps[..4],
            [
                "brief, ACCESS EXCLUSIVE old_v: drop view if exists \"old\".\"old_v\"",
                "brief, ACCESS EXCLUSIVE old_t + ACCESS EXCLUSIVE x: alter table \"old\".\"old_t\" drop constraint \"old_fk\"",
                "brief, ACCESS EXCLUSIVE old_t: drop table if exists \"old\".\"old_t\"",
                "catalog, no lock: drop schema \"old\"",
            ]
        );
        assert_eq!(on_live("drop schema public cascade"), ["blocking DDL_CASCADE"]);
        assert_eq!(told("drop schema old cascade", None), ["blocking DDL_CASCADE"]);
        assert_eq!(on_live("drop schema old"), ["catalog, no lock: drop schema old"]);
        assert_eq!(on_live("drop owned by someone"), ["blocking DDL_OPAQUE"]);
    }
}
