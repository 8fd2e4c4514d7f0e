//! SET SCHEMA: the old name is gone for every client.

use super::{Outcome, Rule, as_written, expand::exclusive, unknown_relation, warning};
use crate::ddl::{
    lock::{Cost, LockRole},
    parse::{self, NodeEnum},
    scene::{Known, Scene},
    source::Statement,
};

const RECIPE: &str = "set_schema";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A move to another schema is brief, and the old name is gone for every client.",
    manual: "sql-altertable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterObjectSchemaStmt(moved) = &statement.tree else { return None };
    let (name, locks) = match &moved.relation {
        Some(range) => {
            let relation = scene.range(range, &statement.search_path);
            let lock = match scene.relation(&relation) {
                Known::Missing if !moved.missing_ok => {
                    return Outcome::finding(unknown_relation(statement, &relation));
                }
                Known::New | Known::Missing => None,
                _ => Some(exclusive(&relation, LockRole::Target)),
            };
            (relation.plain(), Vec::from_iter(lock))
        }
        None => (object_name(moved.object.as_ref()?.node.as_ref()?), Vec::new()),
    };
    let title = format!("move {name} to schema {}", moved.newschema);
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = "only the catalog changes".into();
    let finding = warning(
        statement,
        "DDL_CLIENT_VISIBLE",
        format!("{name} is gone for every client that does not look in schema {}", moved.newschema),
        "Add the schema to the clients' search_path first, or keep a view under the old name until they are gone.",
    );
    Some(Outcome { steps: vec![step], findings: vec![finding] })
}

/// `schema.name` of a function, type or the like.
pub(super) fn object_name(object: &NodeEnum) -> String {
    match object {
        NodeEnum::List(list) => parse::strings(&list.items).join("."),
        NodeEnum::TypeName(name) => parse::strings(&name.names).join("."),
        NodeEnum::ObjectWithArgs(function) => parse::strings(&function.objname).join("."),
        NodeEnum::String(name) => name.sval.clone(),
        _ => "the object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn the_old_name_is_gone() {
        assert_eq!(
            on_live("alter table t set schema app"),
            ["brief, ACCESS EXCLUSIVE t: alter table t set schema app", "warning DDL_CLIENT_VISIBLE"]
        );
        assert_eq!(
            on_live("alter function f(int) set schema app"),
            ["catalog, no lock: alter function f(int) set schema app", "warning DDL_CLIENT_VISIBLE"]
        );
        assert_eq!(on_live("alter table nowhere set schema app"), ["blocking DDL_UNKNOWN_RELATION"]);
        let told = on_live("alter table t set schema app; alter table app.t add column n int");
        assert_eq!(told[1], "brief, ACCESS EXCLUSIVE t: alter table app.t add column n int");
    }
}
