//! ALTER TYPE and DROP TYPE, DROP DOMAIN: enums take no lock; CASCADE is written out as the columns it would drop.

use super::{
    Outcome, Rule, as_written,
    expand::{cascade_unseen, exclusive, fails, in_turn, listed},
    function::without_cascade,
    warning,
};
use crate::ddl::{
    lock::{Cost, LockRole},
    parse::{
        self, NodeEnum,
        node::{self, AlterTableType, DropBehavior, ObjectType},
    },
    scene::Scene,
    source::Statement,
};

const RECIPE: &str = "user_type";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Values of an enum take no lock; CASCADE of DROP TYPE is written out as the columns it would drop.",
    manual: "sql-altertype.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    match &statement.tree {
        NodeEnum::AlterEnumStmt(alter) => enumeration(statement, alter),
        NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectType => {
            composite(statement, scene, alter)
        }
        NodeEnum::DropStmt(drop)
            if matches!(drop.remove_type(), ObjectType::ObjectType | ObjectType::ObjectDomain) =>
        {
            dropped(statement, scene, drop)
        }
        _ => None,
    }
}

fn enumeration(statement: &Statement, alter: &node::AlterEnumStmt) -> Option<Outcome> {
    let name = parse::strings(&alter.type_name).join(".");
    if alter.old_val.is_empty() {
        let mut step =
            as_written(statement, RECIPE, format!("add value {} to {name}", alter.new_val), Cost::default());
        step.why = "only the catalog changes; in a transaction of its own, so that the next statement may use the value".into();
        return Outcome::step(step);
    }
    let title = format!("rename value {} of {name} to {}", alter.old_val, alter.new_val);
    let mut step = as_written(statement, RECIPE, title, Cost::default());
    step.why = "only the catalog changes, and no table is locked".into();
    let finding = warning(
        statement,
        "DDL_CLIENT_VISIBLE",
        format!(
            "'{}' is no value of {name} any more: every client that writes or compares it fails",
            alter.old_val
        ),
        "Add the new value beside the old one, move rows and clients over, and leave the old one; a value cannot be removed.",
    );
    Some(Outcome { steps: vec![step], findings: vec![finding] })
}

/// ALTER TYPE … ADD, DROP and ALTER ATTRIBUTE: ACCESS EXCLUSIVE on the type, which is a relation too, and on tables made OF it.
fn composite(statement: &Statement, scene: &Scene, alter: &node::AlterTableStmt) -> Option<Outcome> {
    let range = alter.relation.as_ref()?;
    let mut parts = vec![range.schemaname.clone(), range.relname.clone()];
    parts.retain(|part| !part.is_empty());
    let seen = scene.user_type(&parts, &statement.search_path);
    let tables = seen.map(|one| scene.typed_tables(one)).unwrap_or_default();
    let used = seen.map(|one| scene.columns_of(one)).unwrap_or_default();
    let in_use =
        !tables.is_empty() || !used.is_empty() || seen.is_none() && !scene.is_plain_type(&range.relname);
    for command in &alter.cmds {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        match command.subtype() {
            AlterTableType::AtAddColumn | AlterTableType::AtDropColumn => {}
            // A typed table would be written anew, and with columns of the type the server refuses.
            AlterTableType::AtAlterColumnType if !in_use => {}
            _ => return None,
        }
    }
    let own = seen.map(|seen| exclusive(&seen.name, LockRole::Target));
    let locks = own.into_iter().chain(tables.iter().map(|table| exclusive(table, LockRole::Table))).collect();
    let mut step = as_written(statement, RECIPE, format!("alter type {}", range.relname), Cost::brief(locks));
    step.why = "only the catalog changes; tables made of the type are locked for a moment".into();
    let findings = in_use.then(|| {
        warning(
            statement,
            "DDL_CLIENT_VISIBLE",
            format!("values of {} have other attributes from here on", range.relname),
            "Release clients that can live with both shapes first.",
        )
    });
    Some(Outcome { steps: vec![step], findings: findings.into_iter().collect() })
}

fn dropped(statement: &Statement, scene: &Scene, drop: &node::DropStmt) -> Option<Outcome> {
    let cascade = drop.behavior() == DropBehavior::DropCascade;
    let names: Vec<Vec<String>> = drop
        .objects
        .iter()
        .filter_map(|object| match &object.node {
            Some(NodeEnum::TypeName(name)) => Some(parse::strings(&name.names)),
            _ => None,
        })
        .collect();
    let shown = listed(names.iter().map(|name| name.join(".")));
    let ours = names.iter().all(|name| name.last().is_some_and(|name| scene.is_plain_type(name)));
    if cascade && !scene.looked() && !ours {
        return cascade_unseen(statement, "DROP TYPE");
    }
    let mut sqls = Vec::new();
    for user_type in names.iter().filter_map(|name| scene.user_type(name, &statement.search_path)) {
        let tables = scene.typed_tables(user_type);
        if !tables.is_empty() {
            let what = format!(
                "{} are made OF {}",
                listed(tables.iter().map(|table| table.plain())),
                user_type.name.plain()
            );
            return fails(
                statement,
                what,
                "Drop those tables first, or make them independent: ALTER TABLE … NOT OF.",
            );
        }
        let columns = scene.columns_of(user_type);
        if !cascade && !columns.is_empty() {
            let columns = listed(
                columns.iter().map(|(table, column)| format!("{}.{}", table.plain(), column.as_str())),
            );
            let what = format!("the server refuses to drop {}: {columns} use it", user_type.name.plain());
            return fails(statement, what, "Drop those columns, or change their types, first.");
        }
        sqls.extend(
            columns.iter().map(|(table, column)| format!("alter table {table} drop column {column}")),
        );
    }
    if cascade {
        sqls.push(without_cascade(statement)?);
        return in_turn(statement, scene, RECIPE, &sqls);
    }
    let mut step = as_written(statement, RECIPE, format!("drop type {shown}"), Cost::default());
    step.why = "no column uses it, so only the catalog changes".into();
    let finding = warning(
        statement,
        "DDL_CLIENT_VISIBLE",
        format!("type {shown} is gone for every client that still casts to it"),
        "Release clients that do not use it first.",
    );
    Some(Outcome { steps: vec![step], findings: vec![finding] })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn a_new_value_locks_nothing_and_a_renamed_one_breaks_clients() {
        assert_eq!(
            on_live("alter type mood add value if not exists 'x'"),
            ["catalog, no lock: alter type mood add value if not exists 'x'"]
        );
        assert_eq!(on_live("alter type mood rename value 'a' to 'b'")[1..], ["warning DDL_CLIENT_VISIBLE"]);
    }

    #[test]
    fn cascade_is_written_out_as_columns() {
        assert_eq!(on_live("drop type mood"), ["blocking DDL_FAILS"]);
        let told_all = on_live("drop type mood cascade");
        assert_eq!(
            told_all[..2],
            [
                "brief, ACCESS EXCLUSIVE s: alter table \"public\".\"s\" drop column \"m\"",
                "catalog, no lock: drop type mood"
            ]
        );
        assert_eq!(told("drop type mood cascade", None), ["blocking DDL_CASCADE"]);
        assert_eq!(on_live("drop type unused")[0], "catalog, no lock: drop type unused");
    }

    #[test]
    fn a_column_that_has_it_no_longer_does_not_hold_it() {
        for before in [
            "alter table s drop column m",
            "alter table s rename column m to k; alter table s drop column k",
            "drop materialized view mv, bare; drop view w, v; drop table s; create table s (a int)",
        ] {
            let told = on_live(&format!("{before}; drop type mood"));
            assert!(told.contains(&"catalog, no lock: drop type mood".to_owned()), "{told:#?}");
        }
        let renamed = on_live("alter table s rename column m to k; drop type mood");
        assert!(renamed.contains(&"blocking DDL_FAILS".to_owned()), "{renamed:#?}");
    }

    #[test]
    fn typed_tables_are_locked_with_their_type() {
        assert_eq!(
            on_live("alter type shape add attribute n int cascade"),
            [
                "brief, ACCESS EXCLUSIVE shape + ACCESS EXCLUSIVE typed: alter type shape add attribute n int cascade",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
        assert_eq!(on_live("alter type shape alter attribute n type text cascade"), ["blocking DDL_NO_RULE"]);
    }
}
