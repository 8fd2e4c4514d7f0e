//! ALTER and DROP of functions, procedures, aggregates, operators and casts: no table is locked, but clients may call them.

use super::{
    Outcome, Rule, as_written,
    expand::{cascade_unseen, in_turn},
    set_schema::object_name,
    warning,
};
use crate::{
    ddl::{
        lock::Cost,
        parse::{
            NodeEnum,
            node::{self, DropBehavior, ObjectType},
        },
        scene::Scene,
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "function";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "ALTER and DROP of functions, operators and casts lock no table, but clients may call them.",
    manual: "sql-alterfunction.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let (title, what) = match &statement.tree {
        NodeEnum::AlterFunctionStmt(alter) => {
            let name =
                alter.func.as_ref().map(|function| crate::ddl::parse::strings(&function.objname).join("."));
            (format!("alter function {}", name.unwrap_or_default()), None)
        }
        NodeEnum::DropStmt(drop) => {
            let kind = match drop.remove_type() {
                ObjectType::ObjectFunction => "function",
                ObjectType::ObjectProcedure => "procedure",
                ObjectType::ObjectRoutine => "routine",
                ObjectType::ObjectAggregate => "aggregate",
                ObjectType::ObjectOperator => "operator",
                ObjectType::ObjectCast => "cast",
                _ => return None,
            };
            if drop.behavior() == DropBehavior::DropCascade {
                return cascade(statement, scene, drop, kind);
            }
            let names: Vec<String> =
                drop.objects.iter().filter_map(|object| object.node.as_ref()).map(object_name).collect();
            let names = names.join(", ");
            (
                format!("drop {kind} {names}"),
                Some(format!("{kind} {names} is gone for every client that still calls it")),
            )
        }
        NodeEnum::DefineStmt(_) | NodeEnum::CreateCastStmt(_) => {
            ("define an aggregate, operator or the like".into(), None)
        }
        _ => return None,
    };
    let mut step = as_written(statement, RECIPE, title, Cost::default());
    step.why = "only the catalog changes, and no table is locked".into();
    let findings = what.map(|what| {
        warning(statement, "DDL_CLIENT_VISIBLE", what, "Release clients that do not use it first.")
    });
    Some(Outcome { steps: vec![step], findings: findings.into_iter().collect() })
}

/// DROP FUNCTION … CASCADE: the triggers that run it, one by one, then the function. The server refuses what else rests on it.
fn cascade(statement: &Statement, scene: &Scene, drop: &node::DropStmt, kind: &str) -> Option<Outcome> {
    if !scene.looked() {
        return cascade_unseen(statement, "DROP FUNCTION");
    }
    let [object] = drop.objects.as_slice() else {
        return super::expand::fails(
            statement,
            "DROP FUNCTION of several … CASCADE: what falls with which cannot be told".into(),
            "Write one DROP FUNCTION for each.",
        );
    };
    let NodeEnum::ObjectWithArgs(function) = object.node.as_ref()? else { return None };
    let mut parts = crate::ddl::parse::strings(&function.objname);
    let name = parts.pop()?;
    let schemas = match parts.pop() {
        Some(schema) => vec![crate::pg::name::Ident::new(schema)],
        None => statement.search_path.clone(),
    };
    let triggers = schemas
        .iter()
        .map(|schema| TableName { schema: schema.clone(), name: crate::pg::name::Ident::new(&name) })
        .map(|function| scene.triggers_of(&function))
        .find(|triggers| !triggers.is_empty())
        .unwrap_or_default();
    let mut sqls: Vec<String> =
        triggers.iter().map(|(table, trigger)| format!("drop trigger {trigger} on {table}")).collect();
    sqls.push(without_cascade(statement)?);
    let mut outcome = in_turn(statement, scene, RECIPE, &sqls)?;
    outcome.findings.push(super::info(
        statement,
        "DDL_CASCADE",
        format!("CASCADE of the {kind} {name} is written out: {} of triggers; the server refuses the DROP if anything else rests on it", triggers.len()),
        "Drop what else rests on it first: defaults, generated columns, views, indexes over it.",
    ));
    Some(outcome)
}

/// The operator's text without its last word, when that is CASCADE.
pub(super) fn without_cascade(statement: &Statement) -> Option<String> {
    let tokens = crate::ddl::parse::tokens(&statement.sql).ok()?;
    let last = tokens.last().filter(|token| token.kind == node::Token::Cascade)?;
    Some(statement.sql[..last.start].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn no_table_is_locked() {
        assert_eq!(
            on_live("alter function f() immutable"),
            ["catalog, no lock: alter function f() immutable"]
        );
        assert_eq!(
            on_live("drop function if exists g(int)"),
            ["catalog, no lock: drop function if exists g(int)", "warning DDL_CLIENT_VISIBLE"]
        );
    }

    #[test]
    fn cascade_drops_its_triggers_first() {
        assert_eq!(
            on_live("drop function f() cascade"),
            [
                "brief, ACCESS EXCLUSIVE s: drop trigger \"s_g\" on \"public\".\"s\"",
                "catalog, no lock: drop function f()",
                "info DDL_BEHAVIOR",
                "warning DDL_CLIENT_VISIBLE",
                "info DDL_CASCADE",
            ]
        );
        assert_eq!(told("drop function f() cascade", None), ["blocking DDL_CASCADE"]);
    }
}
