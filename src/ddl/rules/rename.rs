//! RENAME: an index for nobody to notice; a table, column, view or constraint under a brief lock, visible to clients.

use super::{Outcome, as_written, unknown_relation, warning};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{NodeEnum, node::ObjectType},
        scene::{Known, Scene},
        source::Statement,
        statement::{Undo, Verify},
    },
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "rename";

pub(super) fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::RenameStmt(rename) = &statement.tree else { return None };
    let range = rename.relation.as_ref()?;
    let relation = scene.range(range, &statement.search_path);
    let to = Ident::new(&rename.newname);
    let is_index = rename.rename_type() == ObjectType::ObjectIndex || scene.index(&relation).is_some();
    // ALTER TABLE idx RENAME takes a stronger lock than ALTER INDEX idx RENAME, on the index only.
    let mode = if rename.rename_type() == ObjectType::ObjectIndex {
        LockMode::ShareUpdateExclusive
    } else {
        LockMode::AccessExclusive
    };
    let (title, what) = match rename.rename_type() {
        ObjectType::ObjectIndex => {
            (format!("rename index {} to {}", relation.name.as_str(), rename.newname), None)
        }
        ObjectType::ObjectTable | ObjectType::ObjectView if is_index => {
            (format!("rename index {} to {}", relation.name.as_str(), rename.newname), None)
        }
        ObjectType::ObjectTable | ObjectType::ObjectView => (
            format!("rename {} to {}", relation.plain(), rename.newname),
            Some(format!("{} is gone for every client that still uses the old name", relation.plain())),
        ),
        ObjectType::ObjectColumn | ObjectType::ObjectAttribute => (
            format!("rename column {} of {} to {}", rename.subname, relation.plain(), rename.newname),
            Some(format!(
                "column {} of {} is gone for every client that still uses the old name",
                rename.subname,
                relation.plain()
            )),
        ),
        ObjectType::ObjectTabconstraint => (
            format!("rename constraint {} of {} to {}", rename.subname, relation.plain(), rename.newname),
            None,
        ),
        _ => return None,
    };
    if !is_index && !rename.missing_ok && matches!(scene.relation(&relation), Known::Missing) {
        // The interim index of a swap is renamed before we could have seen it.
        return Outcome::finding(unknown_relation(statement, &relation));
    }
    let lock = LockTaken { relation: relation.clone(), mode, role: LockRole::Target };
    let mut step = as_written(statement, RECIPE, title, Cost::brief(vec![lock]));
    step.why = "only the catalog changes".into();
    if is_index {
        let renamed = TableName { schema: relation.schema.clone(), name: to };
        step.verify = Verify::IndexRenamed { from: relation.clone(), to: renamed.clone() };
        step.undo = Some(Undo::Brief { sql: format!("alter index {renamed} rename to {}", relation.name) });
    }
    let findings = what.map(|what| {
        warning(
            statement,
            "DDL_CLIENT_VISIBLE",
            what,
            "Release clients that do not use the old name first, or keep a view under it until they are gone.",
        )
    });
    Some(Outcome { steps: vec![step], findings: findings.into_iter().collect() })
}
