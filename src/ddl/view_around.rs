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

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn the_views_are_away_for_one_transaction_only() {
        let told = on_live("alter table old.old_t alter column a type integer");
        assert_eq!(
            told[0],
            "brief, ACCESS EXCLUSIVE old_v + ACCESS EXCLUSIVE old_t: drop view \"old\".\"old_v\";\nalter table old.old_t alter column a type integer;\ncreate view old.old_v as select a from old.old_t;\nalter view old.old_v owner to app"
        );
        assert!(!told.iter().any(|line| line.starts_with("blocking")), "{told:#?}");
    }

    #[test]
    fn a_long_change_is_refused() {
        let told = on_live("alter table old.old_t alter column a type text");
        assert!(told.iter().any(|line| line.starts_with("blocking")), "{told:#?}");
    }
}
