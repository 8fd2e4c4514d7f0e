//! CREATE and DROP STATISTICS: SHARE UPDATE EXCLUSIVE on the table, which neither readers nor writers wait for. ALTER locks none.

use super::{Outcome, Rule, as_written, unknown_relation, warning};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{
        self, NodeEnum,
        node::{DropBehavior, ObjectType},
    },
    scene::{self, Known, Scene},
    source::Statement,
};
use crate::{finding::Finding, pg::name::TableName};

const RECIPE: &str = "statistics";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Extended statistics take SHARE UPDATE EXCLUSIVE, which neither readers nor writers wait for.",
    manual: "sql-createstatistics.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let mut tables: Vec<TableName> = Vec::new();
    let mut findings = Vec::new();
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
                    _ => tables.push(relation),
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
            let mut names = Vec::new();
            for (schema, name) in scene::dropped_names(drop) {
                let table = scene.table_of_statistics(&schema, &name, &statement.search_path);
                names.push(if schema.is_empty() { name } else { format!("{schema}.{name}") });
                match table {
                    Some(table) if matches!(scene.relation(table), Known::New) => {}
                    Some(table) => tables.push(table.clone()),
                    None if scene.looked() && !drop.missing_ok => {
                        findings.extend(names.last().map(|name| absent(statement, name)));
                    }
                    None => {}
                }
            }
            format!("drop statistics {}", names.join(", "))
        }
        _ => return None,
    };
    tables.sort();
    tables.dedup();
    let lock =
        |relation| LockTaken { relation, mode: LockMode::ShareUpdateExclusive, role: LockRole::Target };
    let mut step = as_written(statement, RECIPE, title, Cost::brief(tables.into_iter().map(lock).collect()));
    step.why = "only the catalog changes; the table of statistics that come or go is locked against VACUUM and the like, readers and writers go on".into();
    Some(Outcome { steps: vec![step], findings })
}

fn absent(statement: &Statement, name: &str) -> Finding {
    warning(
        statement,
        "DDL_ALREADY_ABSENT",
        format!("there are no statistics {name} on the database"),
        "If an earlier run dropped them, write IF EXISTS; otherwise correct the name.",
    )
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
        assert_eq!(
            on_live("drop statistics t_stats"),
            ["catalog, SHARE UPDATE EXCLUSIVE t: drop statistics t_stats"]
        );
        let altered = "alter statistics t_stats set statistics 100";
        assert_eq!(on_live(altered), [format!("catalog, no lock: {altered}")]);
        assert_eq!(on_live("create statistics x on a, b from nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn statistics_are_followed_through_the_plan() {
        let last = |sql: &str| on_live(sql).pop().unwrap();
        let dropped = "catalog, SHARE UPDATE EXCLUSIVE t: drop statistics";
        assert_eq!(last("create statistics x on a, b from t; drop statistics x"), format!("{dropped} x"));
        let moved =
            "alter statistics t_stats rename to y; alter statistics y set schema app; drop statistics app.y";
        assert_eq!(on_live(moved)[2], format!("{dropped} app.y"));
        assert_eq!(last("drop statistics t_stats; drop statistics t_stats"), "warning DDL_ALREADY_ABSENT");
        assert_eq!(
            last("create table n (a int, b int); create statistics n_s on a, b from n; drop statistics n_s"),
            "catalog, no lock: drop statistics n_s"
        );
        assert_eq!(
            last("drop statistics if exists nowhere"),
            "catalog, no lock: drop statistics if exists nowhere"
        );
    }
}
