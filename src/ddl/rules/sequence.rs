//! Sequences: ALTER and DROP for a moment in a transaction of their own, since nextval() of everybody waits until its end;
//! and `select setval(…)`.

use super::{Outcome, Rule, as_written, expand::fails, unknown_relation, warning};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, DropBehavior, ObjectType},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "sequence";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A change of a sequence makes nextval() of everybody wait until it commits, so it runs alone and briefly.",
    manual: "sql-altersequence.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    match &statement.tree {
        NodeEnum::AlterSeqStmt(alter) => altered(statement, scene, alter),
        NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectSequence => {
            let sequence = scene.range(alter.relation.as_ref()?, &statement.search_path);
            step(statement, scene, &sequence, "alter", LockMode::AccessExclusive, alter.missing_ok)
        }
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectSequence => {
            dropped(statement, scene, drop)
        }
        NodeEnum::SelectStmt(select) => set_value(statement, scene, select),
        _ => None,
    }
}

fn step(
    statement: &Statement,
    scene: &Scene,
    sequence: &TableName,
    verb: &str,
    mode: LockMode,
    may_be_missing: bool,
) -> Option<Outcome> {
    let known = scene.relation(sequence);
    let lock = LockTaken { relation: sequence.clone(), mode, role: LockRole::Target };
    let locks = match known {
        Known::Missing if !may_be_missing => return Outcome::finding(unknown_relation(statement, sequence)),
        Known::Missing | Known::New => Vec::new(),
        _ => vec![lock],
    };
    let title = format!("{verb} sequence {}", sequence.plain());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = "nextval() of everybody waits until this commits, so it runs alone".into();
    Outcome::step(step)
}

fn altered(statement: &Statement, scene: &Scene, alter: &node::AlterSeqStmt) -> Option<Outcome> {
    let sequence = scene.range(alter.sequence.as_ref()?, &statement.search_path);
    let mut outcome =
        step(statement, scene, &sequence, "alter", LockMode::ShareRowExclusive, alter.missing_ok)?;
    let owner = alter.options.iter().find_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "owned_by" => {
            match option.arg.as_ref()?.node.as_ref()? {
                NodeEnum::List(list) => Some(parse::strings(&list.items)),
                _ => None,
            }
        }
        _ => None,
    });
    // `owned by t.a`, or `owned by none`, which is one word.
    if let Some([.., table, _]) = owner.as_deref() {
        let schema = owner.as_ref().and_then(|parts| parts.len().checked_sub(3).map(|at| parts[at].clone()));
        let table = scene.resolve(&schema.unwrap_or_default(), table, &statement.search_path);
        if !matches!(scene.relation(&table), Known::New)
            && let Some(step) = outcome.steps.first_mut()
        {
            step.cost.locks.push(LockTaken {
                relation: table,
                mode: LockMode::AccessShare,
                role: LockRole::Table,
            });
        }
    }
    Some(outcome)
}

fn dropped(statement: &Statement, scene: &Scene, drop: &node::DropStmt) -> Option<Outcome> {
    if drop.behavior() == DropBehavior::DropCascade {
        return fails(
            statement,
            "DROP SEQUENCE … CASCADE takes away the defaults that use it, under ACCESS EXCLUSIVE on their tables".into(),
            "Write ALTER TABLE … ALTER COLUMN … DROP DEFAULT for each, then DROP SEQUENCE without CASCADE.",
        );
    }
    let names = scene.dropped(drop, &statement.search_path);
    let [name] = names.as_slice() else {
        let if_exists = if drop.missing_ok { "if exists " } else { "" };
        let sqls: Vec<String> = names.iter().map(|name| format!("drop sequence {if_exists}{name}")).collect();
        return super::expand::in_turn(statement, scene, RECIPE, &sqls);
    };
    let mut outcome = step(statement, scene, name, "drop", LockMode::AccessExclusive, drop.missing_ok)?;
    if outcome.steps.iter().any(|step| !step.cost.locks.is_empty()) {
        outcome.findings.push(warning(
            statement,
            "DDL_CLIENT_VISIBLE",
            format!("{} is gone for every client that still calls nextval() on it", name.plain()),
            "Release clients that do not use it first.",
        ));
    }
    Some(outcome)
}

/// `select setval('s', …)`: ROW EXCLUSIVE on the sequence, nobody waits.
fn set_value(statement: &Statement, scene: &Scene, select: &node::SelectStmt) -> Option<Outcome> {
    let [target] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else {
        return None;
    };
    if parse::strings(&call.funcname).last()? != "setval" || select.into_clause.is_some() {
        return None;
    }
    const KNOWN: &[&str] =
        &["setval", "pg_get_serial_sequence", "max", "min", "coalesce", "nextval", "greatest"];
    if parse::function_names(&statement.tree).any(|name| !KNOWN.contains(&name.as_str())) {
        return None;
    }
    let mut locks = super::create_object::reads(statement, scene, &TableName::new("", ""));
    let named = call.args.first().and_then(|argument| match &argument.node {
        Some(NodeEnum::AConst(constant)) => match constant.val.as_ref()? {
            node::a_const::Val::Sval(text) => Some(text.sval.clone()),
            _ => None,
        },
        _ => None,
    });
    if let Some(text) = named {
        let parts: Vec<&str> = text.split('.').map(|part| part.trim_matches('"')).collect();
        let (schema, name) = match parts.as_slice() {
            [name] => ("", *name),
            [schema, name] => (*schema, *name),
            _ => return None,
        };
        let relation = scene.resolve(schema, name, &statement.search_path);
        if !matches!(scene.relation(&relation), Known::New) {
            locks.push(LockTaken { relation, mode: LockMode::RowExclusive, role: LockRole::Target });
        }
    }
    let mut step = as_written(statement, RECIPE, "set a sequence's value".into(), Cost::brief(locks));
    step.why = "nobody waits for it; it stays also when the transaction is rolled back".into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn nextval_waits_so_each_runs_alone() {
        assert_eq!(
            on_live("alter sequence sq restart with 100"),
            ["brief, SHARE ROW EXCLUSIVE sq: alter sequence sq restart with 100"]
        );
        assert_eq!(
            on_live("alter sequence sq owned by t.a"),
            ["brief, SHARE ROW EXCLUSIVE sq + ACCESS SHARE t: alter sequence sq owned by t.a"]
        );
        assert_eq!(
            on_live("alter sequence sq owned by none"),
            ["brief, SHARE ROW EXCLUSIVE sq: alter sequence sq owned by none"]
        );
        assert_eq!(
            on_live("drop sequence sq"),
            ["brief, ACCESS EXCLUSIVE sq: drop sequence sq", "warning DDL_CLIENT_VISIBLE"]
        );
        assert_eq!(on_live("drop sequence sq cascade"), ["blocking DDL_FAILS"]);
        assert_eq!(on_live("alter sequence nowhere restart"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn setval_makes_nobody_wait() {
        assert_eq!(
            on_live("select setval('sq', coalesce((select max(id) from t), 1))"),
            [
                "catalog, ACCESS SHARE t + ROW EXCLUSIVE sq: select setval('sq', coalesce((select max(id) from t), 1))"
            ]
        );
        assert_eq!(on_live("select setval('sq', f(1))"), ["blocking DDL_NO_RULE"]);
    }
}
