//! CREATE, ALTER and DROP PUBLICATION: nobody waits, but what replication sends changes.

use super::{Outcome, Rule, as_written, set_schema::object_name, unknown_relation, warning};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{
        NodeEnum,
        node::{self, ObjectType},
    },
    scene::{Known, Scene},
    source::Statement,
};

const RECIPE: &str = "publication";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Nobody waits for a change of a publication, but what replication sends changes.",
    manual: "sql-alterpublication.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let (title, objects) = match &statement.tree {
        NodeEnum::CreatePublicationStmt(create) => {
            (format!("create publication {}", create.pubname), create.pubobjects.as_slice())
        }
        NodeEnum::AlterPublicationStmt(alter) => {
            (format!("alter publication {}", alter.pubname), alter.pubobjects.as_slice())
        }
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectPublication => {
            let names = drop.objects.iter().filter_map(|object| object.node.as_ref()).map(object_name);
            (format!("drop publication {}", names.collect::<Vec<_>>().join(", ")), [].as_slice())
        }
        _ => return None,
    };
    let mut locks = Vec::new();
    for range in objects.iter().filter_map(table) {
        let relation = scene.range(range, &statement.search_path);
        match scene.relation(&relation) {
            Known::New => {}
            Known::Missing => return Outcome::finding(unknown_relation(statement, &relation)),
            _ => locks.push(LockTaken {
                relation,
                mode: LockMode::ShareUpdateExclusive,
                role: LockRole::Target,
            }),
        }
    }
    let mut step = as_written(statement, RECIPE, title.clone(), Cost::brief(locks));
    step.why = "only the catalog changes; readers and writers go on".into();
    let finding = warning(
        statement,
        "DDL_REPLICATION",
        format!(
            "{title}: subscribers get other changes from here on, and UPDATE and DELETE fail on a table it adds that has no replica identity"
        ),
        "Make sure that added tables have a primary key or a replica identity; refresh the subscriptions after it.",
    );
    Some(Outcome { steps: vec![step], findings: vec![finding] })
}

fn table(item: &node::Node) -> Option<&node::RangeVar> {
    match &item.node {
        Some(NodeEnum::PublicationObjSpec(spec)) => spec.pubtable.as_ref()?.relation.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn its_tables_are_locked_against_vacuum_only() {
        assert_eq!(
            on_live("create publication x for table t, r"),
            [
                "catalog, SHARE UPDATE EXCLUSIVE t + SHARE UPDATE EXCLUSIVE r: create publication x for table t, r",
                "warning DDL_REPLICATION"
            ]
        );
        assert_eq!(
            on_live("create publication x for all tables")[0],
            "catalog, no lock: create publication x for all tables"
        );
        assert_eq!(on_live("drop publication x")[0], "catalog, no lock: drop publication x");
        assert_eq!(on_live("alter publication x add table nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }
}
