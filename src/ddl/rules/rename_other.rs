//! RENAME of what is neither table nor index: schemas, types, functions, sequences, triggers and the like.

use super::{Outcome, as_written, set_schema::object_name, unknown_relation, warning};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::node::{ObjectType, RenameStmt},
    scene::{Known, Scene},
    source::Statement,
};

const RECIPE: &str = "rename";

pub(super) fn rule(statement: &Statement, scene: &Scene, rename: &RenameStmt) -> Option<Outcome> {
    use ObjectType as Object;
    let object = || {
        rename.object.as_ref().and_then(|object| object.node.as_ref()).map(object_name).unwrap_or_default()
    };
    let (kind, name, seen_by_clients) = match rename.rename_type() {
        Object::ObjectSchema => ("schema", rename.subname.clone(), true),
        Object::ObjectType => ("type", object(), true),
        Object::ObjectDomain => ("domain", object(), true),
        Object::ObjectFunction
        | Object::ObjectProcedure
        | Object::ObjectRoutine
        | Object::ObjectAggregate => ("function", object(), true),
        Object::ObjectDomconstraint => ("constraint of domain", object(), false),
        Object::ObjectStatisticExt => ("statistics", object(), false),
        Object::ObjectPublication => ("publication", object(), false),
        Object::ObjectSequence => ("sequence", relation_name(rename), true),
        Object::ObjectTrigger => ("trigger", rename.subname.clone(), false),
        Object::ObjectRule => ("rule", rename.subname.clone(), false),
        Object::ObjectPolicy => ("policy", rename.subname.clone(), false),
        Object::ObjectAttribute => ("attribute", rename.subname.clone(), true),
        _ => return None,
    };
    let mut locks = Vec::new();
    if let Some(range) = &rename.relation {
        let relation = scene.range(range, &statement.search_path);
        if rename.rename_type() == Object::ObjectAttribute {
            let mut parts = vec![range.schemaname.clone(), range.relname.clone()];
            parts.retain(|part| !part.is_empty());
            let tables = scene.user_type(&parts, &statement.search_path).map(|one| scene.typed_tables(one));
            locks.extend(
                tables
                    .unwrap_or_default()
                    .iter()
                    .map(|table| super::expand::exclusive(table, LockRole::Table)),
            );
        } else {
            let copied = rename.rename_type() == Object::ObjectTrigger;
            let parts = if copied { scene.all_partitions(&relation) } else { Vec::new() };
            match scene.relation(&relation) {
                Known::Missing if rename.missing_ok => {}
                Known::Missing => return Outcome::finding(unknown_relation(statement, &relation)),
                Known::New => {}
                _ => locks.push(LockTaken {
                    relation,
                    mode: LockMode::AccessExclusive,
                    role: LockRole::Target,
                }),
            }
            locks.extend(parts.iter().map(|part| super::expand::exclusive(&part.name, LockRole::Partition)));
        }
    }
    let title = format!("rename {kind} {name} to {}", rename.newname);
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = "only the catalog changes".into();
    let finding = seen_by_clients.then(|| {
        warning(
            statement,
            "DDL_CLIENT_VISIBLE",
            format!("{kind} {name} is gone for every client that still uses the old name"),
            "Release clients that do not use the old name first, or keep both until they are gone.",
        )
    });
    Some(Outcome { steps: vec![step], findings: finding.into_iter().collect() })
}

fn relation_name(rename: &RenameStmt) -> String {
    rename.relation.as_ref().map(|range| range.relname.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn clients_that_use_the_old_name_are_told_of() {
        for sql in [
            "alter schema app rename to app2",
            "alter type mood rename to mood2",
            "alter domain pos rename to pos2",
            "alter function f() rename to g",
        ] {
            assert_eq!(
                on_live(sql),
                [format!("catalog, no lock: {sql}"), "warning DDL_CLIENT_VISIBLE".into()]
            );
        }
        let sql = "alter sequence sq rename to sq2";
        assert_eq!(
            on_live(sql),
            [format!("brief, ACCESS EXCLUSIVE sq: {sql}"), "warning DDL_CLIENT_VISIBLE".into()]
        );
    }

    #[test]
    fn what_only_the_server_uses_is_not() {
        assert_eq!(
            on_live("alter trigger g on t rename to h"),
            ["brief, ACCESS EXCLUSIVE t: alter trigger g on t rename to h"]
        );
        assert_eq!(
            on_live("alter statistics x rename to y"),
            ["catalog, no lock: alter statistics x rename to y"]
        );
        assert_eq!(on_live("alter policy g on nowhere rename to h"), ["blocking DDL_UNKNOWN_RELATION"]);
        assert_eq!(on_live("alter role a rename to b"), ["blocking DDL_NO_RULE"]);
    }
}
