//! A change of a column's type under views: the server refuses it, so the views are dropped before and made again after, with
//! what the catalog says of their owners, privileges and comments.

use super::{
    parse::{
        self, NodeEnum,
        node::{AlterTableType, ObjectType},
    },
    scene::Scene,
    source::Statement,
};
use crate::facts::View;

/// The statements in place of one: the views dropped, the change itself, the views made again. `None` when no view is in the way,
/// or when one holds rows of its own, which would be filled again while everybody waits.
pub(super) fn parts(statement: &Statement, scene: &Scene) -> Option<Vec<Statement>> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    if alter.objtype() != ObjectType::ObjectTable {
        return None;
    }
    let table = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let mut views: Vec<&View> = Vec::new();
    for command in &alter.cmds {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { continue };
        if command.subtype() == AlterTableType::AtAlterColumnType {
            for view in scene.views_on(&table, Some(&command.name)) {
                if !views.iter().any(|seen| seen.name == view.name) {
                    views.push(view);
                }
            }
        }
    }
    if views.is_empty() || views.iter().any(|view| view.materialized) {
        return None;
    }
    // Whoever reads another goes first.
    views.sort_by_key(|view| scene.views_on(&view.name, None).len());
    let ours = |sql: String| {
        let tree = parse::parse_one(&sql).ok()?;
        Some(Statement { sql, tree, ..statement.clone() })
    };
    let mut parts: Vec<Statement> =
        views.iter().map(|view| ours(format!("drop view {}", view.name))).collect::<Option<_>>()?;
    parts.push(statement.clone());
    for view in views.iter().rev() {
        parts.extend(view.recreate.iter().map(|sql| ours(sql.clone())).collect::<Option<Vec<_>>>()?);
    }
    Some(parts)
}
