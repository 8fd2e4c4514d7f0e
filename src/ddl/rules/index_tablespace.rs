//! ALTER INDEX … SET TABLESPACE: copies the index under ACCESS EXCLUSIVE, so it is rebuilt there beside readers and writers.

use super::{
    Outcome, Rule, as_written,
    expand::{in_turn, instead_of},
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{AlterTableType, ObjectType},
        },
        scene::Scene,
        source::Statement,
    },
    facts::TableKind,
    pg::name::Ident,
};

const RECIPE: &str = "index_tablespace";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "An index is rebuilt in the other tablespace beside readers and writers, instead of copied under ACCESS EXCLUSIVE.",
    manual: "sql-reindex.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    if alter.objtype() != ObjectType::ObjectIndex || command.subtype() != AlterTableType::AtSetTableSpace {
        return None;
    }
    let index = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let table = scene.index(&index).map(|(table, _)| table);
    let relation = table.map_or_else(|| index.clone(), |table| table.name.clone());
    let lock = |mode| LockTaken { relation: relation.clone(), mode, role: LockRole::Table };
    if table.is_some_and(|table| table.kind == TableKind::Partitioned) {
        let title = format!("set the tablespace of {} for partitions to come", index.plain());
        let cost = Cost::brief(vec![lock(LockMode::AccessShare)]);
        let mut step = as_written(statement, RECIPE, title, cost);
        step.why = "a partitioned index holds no entries itself".into();
        return Outcome::step(step);
    }
    let sql = format!("reindex (tablespace {}) index concurrently {index}", Ident::new(&command.name));
    // The index alone is locked, and every query of the table that could use it waits for that.
    let was = Cost { rewrite: true, ..Cost::brief(vec![lock(LockMode::AccessExclusive)]) };
    instead_of(in_turn(statement, scene, RECIPE, &[sql]), was)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn the_index_is_rebuilt_in_its_new_place() {
        assert_eq!(
            on_live("alter index t_a set tablespace fast"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE t: reindex (tablespace \"fast\") index concurrently \"public\".\"t_a\""
            ]
        );
        assert!(on_live("alter index p_a set tablespace fast")[0].starts_with("catalog, ACCESS SHARE p"));
    }
}
