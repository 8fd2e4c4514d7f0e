//! RENAME: an index for nobody to notice; a table, column, view or constraint under a brief lock, visible to clients.

use super::{
    Outcome, Rule, as_written,
    expand::{in_turn, instead_of},
    rename_other, unknown_relation, warning,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, ObjectType},
        },
        scene::{Known, Scene},
        source::Statement,
        statement::{Undo, Verify},
    },
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "rename";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A rename is brief; an index's is noticed by nobody, a table's or column's by every client.",
    manual: "sql-altertable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::RenameStmt(rename) = &statement.tree else { return None };
    if let Some(outcome) = rename_other::rule(statement, scene, rename) {
        return Some(outcome);
    }
    let range = rename.relation.as_ref()?;
    let relation = scene.range(range, &statement.search_path);
    if rename.rename_type() == ObjectType::ObjectTable && scene.index(&relation).is_some() {
        return canonical(statement, scene, rename);
    }
    let to = Ident::new(&rename.newname);
    let is_index = rename.rename_type() == ObjectType::ObjectIndex || scene.index(&relation).is_some();
    let mode = if rename.rename_type() == ObjectType::ObjectIndex {
        LockMode::ShareUpdateExclusive
    } else {
        LockMode::AccessExclusive
    };
    let (title, what) = match rename.rename_type() {
        ObjectType::ObjectIndex => {
            (format!("rename index {} to {}", relation.name.as_str(), rename.newname), None)
        }
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectForeignTable => (
            format!("rename {} to {}", relation.plain(), rename.newname),
            Some(format!("{} is gone for every client that still uses the old name", relation.plain())),
        ),
        ObjectType::ObjectColumn => (
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
    let lock = |relation: &TableName, role| LockTaken { relation: relation.clone(), mode, role };
    // The interim index of a swap stands for its table.
    let locked = scene.index(&relation).map(|(table, _)| &table.name).or_else(|| scene.made_index(&relation));
    let mut locks = match locked {
        Some(table) => vec![lock(table, LockRole::Table)],
        None => vec![lock(&relation, LockRole::Target)],
    };
    if !is_index && rename.rename_type() != ObjectType::ObjectTable && range.inh {
        let parts = scene.all_partitions(&relation);
        locks.extend(parts.iter().map(|part| lock(&part.name, LockRole::Partition)));
    }
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
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

/// ALTER TABLE idx RENAME takes ACCESS EXCLUSIVE on the index, ALTER INDEX idx RENAME only SHARE UPDATE EXCLUSIVE.
fn canonical(statement: &Statement, scene: &Scene, rename: &node::RenameStmt) -> Option<Outcome> {
    let mut wanted = rename.clone();
    wanted.set_rename_type(ObjectType::ObjectIndex);
    let tokens = parse::tokens(&statement.sql).ok()?;
    let table = *tokens.get(edit::find(&tokens, node::Token::Table)?)?;
    let wanted = NodeEnum::RenameStmt(Box::new(wanted));
    let sql = edit::proved(&statement.sql, vec![Edit::replace(table, "INDEX")], &wanted)?;
    let range = rename.relation.as_ref()?;
    let index = scene.range(range, &statement.search_path);
    let (table, _) = scene.index(&index)?;
    let mode = LockMode::AccessExclusive;
    let was = Cost::brief(vec![LockTaken { relation: table.name.clone(), mode, role: LockRole::Table }]);
    instead_of(in_turn(statement, scene, RECIPE, &[sql]), was)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn an_index_renamed_as_a_table_is_renamed_as_an_index() {
        assert_eq!(
            on_live("alter table t_a rename to t_x; alter index t_x rename to t_y; drop index t_y"),
            [
                "catalog, SHARE UPDATE EXCLUSIVE t: alter INDEX t_a rename to t_x",
                "catalog, SHARE UPDATE EXCLUSIVE t: alter index t_x rename to t_y",
                "concurrent, SHARE UPDATE EXCLUSIVE t: drop index CONCURRENTLY t_y",
            ]
        );
    }

    #[test]
    fn columns_are_renamed_in_every_partition() {
        assert_eq!(
            on_live("alter table p rename a to c")[0],
            "brief, ACCESS EXCLUSIVE p + ACCESS EXCLUSIVE p1 + ACCESS EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: alter table p rename a to c"
        );
        assert_eq!(
            on_live("alter table p rename to q"),
            ["brief, ACCESS EXCLUSIVE p: alter table p rename to q", "warning DDL_CLIENT_VISIBLE"]
        );
    }

    #[test]
    fn the_new_name_is_known_from_there_on() {
        let told = on_live(
            "alter table t rename to t2; alter table t2 add column n int; alter table t add column n int",
        );
        assert_eq!(told[1], "brief, ACCESS EXCLUSIVE t2: alter table t2 add column n int");
        assert_eq!(told.last().unwrap(), "blocking DDL_UNKNOWN_RELATION");
    }
}
