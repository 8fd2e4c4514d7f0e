//! DROP VIEW and DROP MATERIALIZED VIEW: brief, one by one, those that read the view first; and ALTER VIEW.

use super::{
    Outcome, Rule, as_written,
    drop_table::drop_view,
    expand::{cascade_unseen, exclusive, fails, in_turn, listed},
    unknown_relation, warning,
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{self, AlterTableType, DropBehavior, ObjectType},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "drop_view";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Views are dropped one by one, those that read another first; each for a moment.",
    manual: "sql-dropview.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    match &statement.tree {
        NodeEnum::DropStmt(drop)
            if matches!(drop.remove_type(), ObjectType::ObjectView | ObjectType::ObjectMatview) =>
        {
            dropped(statement, scene, drop)
        }
        NodeEnum::AlterTableStmt(alter)
            if matches!(alter.objtype(), ObjectType::ObjectView | ObjectType::ObjectMatview) =>
        {
            altered(statement, scene, alter)
        }
        _ => None,
    }
}

fn dropped(statement: &Statement, scene: &Scene, drop: &node::DropStmt) -> Option<Outcome> {
    let cascade = drop.behavior() == DropBehavior::DropCascade;
    if cascade && !scene.looked() {
        return cascade_unseen(statement, "DROP VIEW");
    }
    let names = scene.dropped(drop, &statement.search_path);
    let mut sqls: Vec<String> = Vec::new();
    for name in &names {
        let readers = scene.views_on(name, None);
        let others = || readers.iter().filter(|view| !names.contains(&view.name));
        if !cascade && others().next().is_some() {
            let what = format!(
                "the server refuses to drop {}: {} read it",
                name.plain(),
                listed(others().map(|view| view.name.plain()))
            );
            return fails(statement, what, "Drop those views first, one statement each.");
        }
        let kind = if drop.remove_type() == ObjectType::ObjectMatview { "materialized view" } else { "view" };
        let if_exists = if drop.missing_ok { "if exists " } else { "" };
        let own = format!("drop {kind} {if_exists}{name}");
        let readers = readers.iter().filter(|view| !names.contains(&view.name)).map(|view| drop_view(view));
        for sql in readers.chain([own]) {
            if !sqls.contains(&sql) {
                sqls.push(sql);
            }
        }
    }
    if cascade || names.len() > 1 {
        in_drop_order(scene, &names, &mut sqls);
        return in_turn(statement, scene, RECIPE, &sqls);
    }
    let name = names.first()?;
    let known = scene.relation(name);
    let in_use = match known {
        Known::Missing if !drop.missing_ok => return Outcome::finding(unknown_relation(statement, name)),
        Known::Missing | Known::New => false,
        _ => true,
    };
    let locks = if in_use { vec![exclusive(name, LockRole::Target)] } else { Vec::new() };
    let mut step = as_written(statement, RECIPE, format!("drop view {}", name.plain()), Cost::brief(locks));
    step.why = "only the catalog changes; the lock is held for a moment".into();
    let findings = in_use.then(|| {
        warning(
            statement,
            "DDL_CLIENT_VISIBLE",
            format!("{} is gone for every client that still uses it", name.plain()),
            "Release clients that do not use it first. If it is made again, put CREATE VIEW right after: both then run in one transaction.",
        )
    });
    Some(Outcome { steps: vec![step], findings: findings.into_iter().collect() })
}

/// Views named together may read each other: whoever reads comes first.
fn in_drop_order(scene: &Scene, names: &[TableName], sqls: &mut [String]) {
    let depth = |sql: &String| {
        let named = names.iter().find(|name| sql.ends_with(&name.to_string()));
        named.map_or(0, |name| 1 + scene.views_on(name, None).len())
    };
    sqls.sort_by_key(depth);
}

/// ALTER VIEW … SET, RESET, OWNER, and defaults of its columns.
fn altered(statement: &Statement, scene: &Scene, alter: &node::AlterTableStmt) -> Option<Outcome> {
    use AlterTableType as Type;
    let name = scene.range(alter.relation.as_ref()?, &statement.search_path);
    if matches!(scene.relation(&name), Known::Missing) && !alter.missing_ok {
        return Outcome::finding(unknown_relation(statement, &name));
    }
    let materialized = alter.objtype() == ObjectType::ObjectMatview;
    let mut mode = LockMode::ShareUpdateExclusive;
    for command in &alter.cmds {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        mode = mode.max(match command.subtype() {
            Type::AtSetRelOptions | Type::AtResetRelOptions if materialized => LockMode::ShareUpdateExclusive,
            Type::AtSetStatistics | Type::AtClusterOn | Type::AtDropCluster => LockMode::ShareUpdateExclusive,
            Type::AtSetRelOptions
            | Type::AtResetRelOptions
            | Type::AtColumnDefault
            | Type::AtChangeOwner
            | Type::AtSetOptions
            | Type::AtSetStorage
            | Type::AtSetCompression => LockMode::AccessExclusive,
            _ => return None,
        });
    }
    let locks = if matches!(scene.relation(&name), Known::New) {
        Vec::new()
    } else {
        vec![LockTaken { relation: name.clone(), mode, role: LockRole::Target }]
    };
    let mut step = as_written(statement, RECIPE, format!("alter view {}", name.plain()), Cost::brief(locks));
    step.why = "only the catalog changes".into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn a_view_is_dropped_under_a_brief_lock_and_clients_are_told_of() {
        assert_eq!(
            on_live("drop view w"),
            ["brief, ACCESS EXCLUSIVE w: drop view w", "warning DDL_CLIENT_VISIBLE"]
        );
    }

    #[test]
    fn its_readers_fall_first() {
        let expected = [
            "brief, ACCESS EXCLUSIVE w: drop view \"public\".\"w\"",
            "brief, ACCESS EXCLUSIVE v: drop view \"public\".\"v\"",
        ];
        assert_eq!(on_live("drop view v"), ["blocking DDL_FAILS"]);
        assert_eq!(on_live("drop view v cascade")[..2], expected);
        assert_eq!(on_live("drop view v, w")[..2], expected);
        assert_eq!(told("drop view v cascade", None), ["blocking DDL_CASCADE"]);
    }

    #[test]
    fn options_are_brief() {
        assert_eq!(
            on_live("alter view v set (security_barrier = true)"),
            ["brief, ACCESS EXCLUSIVE v: alter view v set (security_barrier = true)"]
        );
        assert_eq!(
            on_live("alter materialized view mv set (fillfactor = 70)"),
            ["catalog, SHARE UPDATE EXCLUSIVE mv: alter materialized view mv set (fillfactor = 70)"]
        );
        assert_eq!(on_live("alter view nowhere owner to x"), ["blocking DDL_UNKNOWN_RELATION"]);
    }
}
