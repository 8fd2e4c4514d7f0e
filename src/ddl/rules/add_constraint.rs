//! ADD CHECK and ADD FOREIGN KEY: NOT VALID under a brief lock, then VALIDATE beside readers and writers, in another transaction.
//!
//! In one transaction the first lock would be kept while the rows are read.

use super::{Outcome, alter_table};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{AlterTableType, ConstrType, ObjectType},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    facts::TableKind,
    pg::name::Ident,
};

const RECIPE: &str = "add_constraint";

pub(super) fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    if alter.objtype() != ObjectType::ObjectTable || command.subtype() != AlterTableType::AtAddConstraint {
        return None;
    }
    let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref()?.node.as_ref() else { return None };
    let foreign = match constraint.contype() {
        ConstrType::ConstrCheck => false,
        ConstrType::ConstrForeign => true,
        _ => return None,
    };
    // Without a name, what VALIDATE must name would be the server's choice.
    if constraint.skip_validation || !constraint.is_enforced || constraint.conname.is_empty() {
        return None;
    }
    let relation = scene.range(alter.relation.as_ref()?, &statement.search_path);
    match scene.relation(&relation) {
        // On a partitioned table a foreign key cannot be NOT VALID before 18.
        Known::Live(table) if foreign && table.kind == TableKind::Partitioned => return None,
        Known::Live(_) | Known::Unseen => {}
        _ => return None,
    }
    let mut wanted = alter.clone();
    if let Some(NodeEnum::AlterTableCmd(command)) = wanted.cmds.first_mut()?.node.as_mut()
        && let Some(NodeEnum::Constraint(constraint)) = command.def.as_mut()?.node.as_mut()
    {
        (constraint.skip_validation, constraint.initially_valid) = (true, false);
    }
    let wanted = NodeEnum::AlterTableStmt(wanted);
    let end = Edit::insert(statement.sql.len(), " NOT VALID");
    let sql = edit::proved(&statement.sql, vec![end], &wanted)?;
    let added = Statement { sql, tree: wanted, ..statement.clone() };
    let sql = format!("alter table {relation} validate constraint {}", Ident::new(&constraint.conname));
    let tree = parse::parse_one(&sql).ok()?;
    let validated = Statement { sql, tree, ..statement.clone() };

    let mut outcome = alter_table::rule(&added, scene)?;
    let mut second = alter_table::rule(&validated, scene)?;
    let ([first], [last]) = (outcome.steps.as_mut_slice(), second.steps.as_mut_slice()) else { return None };
    first.was = Some(Cost { scan: true, ..first.cost.clone() });
    if let (true, Some(range)) = (foreign, constraint.pktable.as_ref()) {
        let relation = scene.range(range, &statement.search_path);
        last.cost.locks.push(LockTaken { relation, mode: LockMode::RowShare, role: LockRole::Referenced });
    }
    outcome.steps.extend(second.steps);
    for step in &mut outcome.steps {
        step.recipe = RECIPE.into();
    }
    outcome.findings.extend(second.findings);
    Some(outcome)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_check_is_added_and_proved_in_two_statements() {
        assert_eq!(
            on_live("alter table t add constraint k check (a > 0) /* why */ no inherit"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint k check (a > 0) /* why */ no inherit NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"k\"",
            ]
        );
    }

    #[test]
    fn a_foreign_key_too() {
        assert_eq!(
            on_live("alter table t add constraint k foreign key (b) references r (id) on delete cascade"),
            [
                "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table t add constraint k foreign key (b) references r (id) on delete cascade NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table \"public\".\"t\" validate constraint \"k\"",
            ]
        );
    }

    #[test]
    fn without_a_name_or_on_a_partitioned_table_it_is_refused() {
        assert_eq!(on_live("alter table t add check (a > 0)"), ["blocking DDL_NO_RULE"]);
        assert_eq!(
            on_live("alter table p add constraint k foreign key (a) references r (id)"),
            ["blocking DDL_NO_RULE"]
        );
    }
}
