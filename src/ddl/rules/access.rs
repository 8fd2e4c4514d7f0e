//! GRANT, REVOKE, owners of what is no table, default privileges: only the catalog changes.

use super::{Outcome, Rule, as_written};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{
        NodeEnum,
        node::{GrantTargetType, ObjectType},
    },
    scene::{Known, Scene},
    source::Statement,
};

const RECIPE: &str = "access";

/// From this major on GRANT on a table takes ACCESS SHARE.
const LOCKS_SINCE: u32 = 18;

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Privileges and owners change the catalog only.",
    manual: "sql-grant.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let (title, locks) = match &statement.tree {
        NodeEnum::GrantStmt(grant) => {
            let on_tables = grant.targtype() == GrantTargetType::AclTargetObject
                && matches!(grant.objtype(), ObjectType::ObjectTable | ObjectType::ObjectSequence)
                && scene.major().is_none_or(|major| major >= LOCKS_SINCE);
            let relations = grant.objects.iter().filter_map(|object| match &object.node {
                Some(NodeEnum::RangeVar(range)) if on_tables => {
                    Some(scene.range(range, &statement.search_path))
                }
                _ => None,
            });
            let in_use = relations.filter(|name| !matches!(scene.relation(name), Known::New));
            let locks = in_use
                .map(|relation| LockTaken { relation, mode: LockMode::AccessShare, role: LockRole::Target })
                .collect();
            (if grant.is_grant { "grant privileges" } else { "revoke privileges" }, locks)
        }
        NodeEnum::AlterDefaultPrivilegesStmt(_) => ("alter default privileges", Vec::new()),
        NodeEnum::AlterOwnerStmt(_) => ("change an owner", Vec::new()),
        _ => return None,
    };
    let mut step = as_written(statement, RECIPE, title.into(), Cost::brief(locks));
    step.why = "only the catalog changes, and nobody waits".into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{live, told};

    #[test]
    fn only_18_locks_the_table_and_nobody_waits_for_that() {
        let mut facts = live();
        assert_eq!(
            told("grant select on t to public", Some(&facts)),
            ["catalog, no lock: grant select on t to public"]
        );
        facts.version_num = 180_004;
        assert_eq!(
            told("revoke select on t from public", Some(&facts)),
            ["catalog, ACCESS SHARE t: revoke select on t from public"]
        );
        assert_eq!(
            told("alter function f() owner to x", Some(&facts)),
            ["catalog, no lock: alter function f() owner to x"]
        );
    }
}
