//! Triggers, rules and policies of a table: a brief lock on it and, where they have copies, on its partitions.

use super::{Outcome, Rule, as_written, info, unknown_relation};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{self, ObjectType},
        },
        scene::{self, Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "trigger";

/// What is changed, on which table, under which lock.
struct Change {
    title: String,
    table: TableName,
    mode: LockMode,
    /// Partitions have copies of it.
    copied: bool,
    if_exists: bool,
    effect: &'static str,
}

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Triggers, rules and policies take a brief lock on their table and, where they have copies, on its partitions.",
    manual: "sql-createtrigger.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let change = change(statement, scene)?;
    let known = scene.relation(&change.table);
    if matches!(known, Known::Missing) && !change.if_exists {
        return Outcome::finding(unknown_relation(statement, &change.table));
    }
    let mut locks = Vec::new();
    if !matches!(known, Known::New | Known::Missing) {
        let lock =
            |relation: &TableName, role| LockTaken { relation: relation.clone(), mode: change.mode, role };
        locks.push(lock(&change.table, LockRole::Target));
        if change.copied {
            let parts = scene.all_partitions(&change.table);
            locks.extend(parts.iter().map(|part| lock(&part.name, LockRole::Partition)));
        }
        locks.extend(super::create_object::reads(statement, scene, &change.table));
    }
    let in_use = !locks.is_empty();
    let mut step = as_written(statement, RECIPE, change.title, Cost::brief(locks));
    step.why = "only the catalog changes; the lock is held for a moment".into();
    let findings = in_use.then(|| {
        info(
            statement,
            "DDL_BEHAVIOR",
            format!("{} {} from here on", change.table.plain(), change.effect),
            "Nothing to do, if the clients that run now can live with it.",
        )
    });
    Some(Outcome { steps: vec![step], findings: findings.into_iter().collect() })
}

const WRITES: &str = "does something else when rows are written";
const SEEN: &str = "shows and takes other rows for some roles";

fn change(statement: &Statement, scene: &Scene) -> Option<Change> {
    let on = |range: &node::RangeVar| scene.range(range, &statement.search_path);
    let change = |title: String, table: TableName, mode, effect| Change {
        title: format!("{title} on {}", table.plain()),
        table,
        mode,
        copied: false,
        if_exists: false,
        effect,
    };
    Some(match &statement.tree {
        NodeEnum::CreateTrigStmt(create) => Change {
            copied: create.row,
            ..change(
                format!("create trigger {}", create.trigname),
                on(create.relation.as_ref()?),
                LockMode::ShareRowExclusive,
                WRITES,
            )
        },
        NodeEnum::RuleStmt(create) => change(
            format!("create rule {}", create.rulename),
            on(create.relation.as_ref()?),
            LockMode::AccessExclusive,
            WRITES,
        ),
        NodeEnum::CreatePolicyStmt(create) => change(
            format!("create policy {}", create.policy_name),
            on(create.table.as_ref()?),
            LockMode::AccessExclusive,
            SEEN,
        ),
        NodeEnum::AlterPolicyStmt(alter) => change(
            format!("alter policy {}", alter.policy_name),
            on(alter.table.as_ref()?),
            LockMode::AccessExclusive,
            SEEN,
        ),
        NodeEnum::DropStmt(drop) => {
            let (kind, effect) = match drop.remove_type() {
                ObjectType::ObjectTrigger => ("trigger", WRITES),
                ObjectType::ObjectRule => ("rule", WRITES),
                ObjectType::ObjectPolicy => ("policy", SEEN),
                _ => return None,
            };
            let [(mut on, name)] = scene::dropped_of_table(drop).try_into().ok()?;
            let table = on.pop()?;
            let table = scene.resolve(&on.pop().unwrap_or_default(), &table, &statement.search_path);
            Change {
                copied: kind == "trigger",
                if_exists: drop.missing_ok,
                ..change(format!("drop {kind} {name}"), table, LockMode::AccessExclusive, effect)
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn writers_wait_for_a_new_trigger_and_everybody_for_one_that_goes() {
        let create = "create trigger g before insert on t for each row execute function f()";
        assert_eq!(
            on_live(create),
            [format!("brief, SHARE ROW EXCLUSIVE t: {create}"), "info DDL_BEHAVIOR".into()]
        );
        assert_eq!(
            on_live("drop trigger if exists g on t"),
            ["brief, ACCESS EXCLUSIVE t: drop trigger if exists g on t", "info DDL_BEHAVIOR"]
        );
    }

    #[test]
    fn partitions_have_copies() {
        let create = "create trigger g before insert on p for each row execute function f()";
        assert_eq!(
            on_live(create)[0],
            format!(
                "brief, SHARE ROW EXCLUSIVE p + SHARE ROW EXCLUSIVE p1 + SHARE ROW EXCLUSIVE sub + SHARE ROW EXCLUSIVE sub1: {create}"
            )
        );
    }

    #[test]
    fn the_other_table_of_a_constraint_trigger_and_what_a_policy_reads_are_named() {
        let create = "create constraint trigger g after insert on t from r for each row execute function f()";
        assert_eq!(on_live(create)[0], format!("brief, SHARE ROW EXCLUSIVE t + ACCESS SHARE r: {create}"));
        let create = "create policy y on t using (a in (select id from r))";
        assert_eq!(on_live(create)[0], format!("brief, ACCESS EXCLUSIVE t + ACCESS SHARE r: {create}"));
        let create = "create rule y as on insert to t do also nothing";
        assert_eq!(on_live(create)[0], format!("brief, ACCESS EXCLUSIVE t: {create}"));
        assert_eq!(on_live("drop rule y on t")[0], "brief, ACCESS EXCLUSIVE t: drop rule y on t");
    }

    #[test]
    fn an_unknown_table_stops() {
        assert_eq!(on_live("drop trigger g on nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }
}
