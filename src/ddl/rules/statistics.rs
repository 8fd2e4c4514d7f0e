//! CREATE, ALTER and DROP STATISTICS: SHARE UPDATE EXCLUSIVE on the table, which neither readers nor writers wait for.

use super::{Outcome, as_written, set_schema::object_name, unknown_relation};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{
        self, NodeEnum,
        node::{DropBehavior, ObjectType},
    },
    scene::{Known, Scene},
    source::Statement,
};

const RECIPE: &str = "statistics";

pub(super) fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let mut locks = Vec::new();
    let title = match &statement.tree {
        NodeEnum::CreateStatsStmt(create) => {
            for range in create.relations.iter().filter_map(|item| match &item.node {
                Some(NodeEnum::RangeVar(range)) => Some(range),
                _ => None,
            }) {
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
            format!("create statistics {}", parse::strings(&create.defnames).join("."))
        }
        NodeEnum::AlterStatsStmt(alter) => {
            format!("alter statistics {}", parse::strings(&alter.defnames).join("."))
        }
        NodeEnum::DropStmt(drop)
            if drop.remove_type() == ObjectType::ObjectStatisticExt
                && drop.behavior() != DropBehavior::DropCascade =>
        {
            let names = drop.objects.iter().filter_map(|object| object.node.as_ref()).map(object_name);
            format!("drop statistics {}", names.collect::<Vec<_>>().join(", "))
        }
        _ => return None,
    };
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = "only the catalog changes; its table is locked against VACUUM and the like, readers and writers go on".into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn nobody_waits() {
        assert_eq!(
            on_live("create statistics x on a, b from t"),
            ["catalog, SHARE UPDATE EXCLUSIVE t: create statistics x on a, b from t"]
        );
        assert_eq!(on_live("drop statistics x"), ["catalog, no lock: drop statistics x"]);
        assert_eq!(on_live("create statistics x on a, b from nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }
}
