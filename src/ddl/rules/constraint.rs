//! Constraints, as far as they are brief: ADD … NOT VALID, ADD … USING INDEX on NOT NULL columns, VALIDATE, DROP.

use super::alter_table::{Part, Verdict};
use crate::{
    ddl::{
        lock::{LockMode, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{self, AlterTableType as Type, ConstrType, DropBehavior},
        },
        scene::Known,
    },
    facts::{ConstraintKind, TableKind},
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let name = &part.command.name;
    match part.command.subtype() {
        Type::AtAddConstraint => {
            let Some(NodeEnum::Constraint(constraint)) = part.command.def.as_ref()?.node.as_ref() else {
                return None;
            };
            add(part, constraint)
        }
        Type::AtValidateConstraint => {
            let mut verdict =
                Verdict::brief(format!("validate constraint {name}"), LockMode::ShareUpdateExclusive)?;
            verdict.scan = true;
            verdict.others = referenced(part, LockMode::RowShare);
            Some(verdict)
        }
        Type::AtDropConstraint if part.command.behavior() != DropBehavior::DropCascade => {
            let mut verdict = Verdict::brief(format!("drop constraint {name}"), LockMode::AccessExclusive)?;
            verdict.others = referenced(part, LockMode::AccessExclusive);
            Some(verdict)
        }
        _ => None,
    }
}

/// The other side of a foreign key that is live, when the part is about one.
fn referenced(part: &Part, mode: LockMode) -> Vec<LockTaken> {
    part.live
        .iter()
        .flat_map(|table| &table.constraints)
        .filter(|constraint| {
            constraint.name.as_str() == part.command.name && constraint.kind == ConstraintKind::ForeignKey
        })
        .filter_map(|constraint| constraint.references.clone())
        .map(|relation| LockTaken { relation, mode, role: LockRole::Referenced })
        .collect()
}

fn add(part: &Part, constraint: &node::Constraint) -> Option<Verdict> {
    let name = if constraint.conname.is_empty() { "without a name" } else { &constraint.conname };
    let not_valid = constraint.skip_validation;
    match constraint.contype() {
        ConstrType::ConstrCheck if not_valid => {
            Verdict::brief(format!("add check {name} not valid"), LockMode::AccessExclusive)
        }
        ConstrType::ConstrForeign if not_valid || part.is_new => {
            // On a partitioned table NOT VALID exists only from 18 on, and locks every partition.
            if part.live.is_some_and(|table| table.kind == TableKind::Partitioned) {
                return None;
            }
            let referenced = part.scene.range(constraint.pktable.as_ref()?, &part.statement.search_path);
            let mut verdict = Verdict::brief(format!("add foreign key {name}"), LockMode::ShareRowExclusive)?;
            if !matches!(part.scene.relation(&referenced), Known::New) {
                verdict.others.push(LockTaken {
                    relation: referenced,
                    mode: LockMode::ShareRowExclusive,
                    role: LockRole::Referenced,
                });
            }
            Some(verdict)
        }
        ConstrType::ConstrUnique if !constraint.indexname.is_empty() => {
            Verdict::brief(format!("add unique {name} using index"), LockMode::AccessExclusive)
        }
        ConstrType::ConstrPrimary
            if !constraint.indexname.is_empty() && keys_are_not_null(part, constraint) =>
        {
            Verdict::brief(format!("add primary key {name} using index"), LockMode::AccessExclusive)
        }
        _ => None,
    }
}

/// Whether the index's columns are NOT NULL already; else adding the key reads every row to prove it.
fn keys_are_not_null(part: &Part, constraint: &node::Constraint) -> bool {
    let Some(table) = part.live else { return false };
    let index = table.indexes.iter().find(|index| index.name.as_str() == constraint.indexname);
    index.is_some_and(|index| {
        let proved = |name: &crate::pg::name::Ident| {
            table.columns.iter().any(|column| column.name == *name && column.not_null)
        };
        !index.columns.is_empty() && index.columns.iter().all(proved)
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn not_valid_is_brief_and_validate_reads_beside_the_others() {
        assert_eq!(
            on_live("alter table t add constraint k foreign key (b) references r (id) not valid"),
            [
                "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table t add constraint k foreign key (b) references r (id) not valid"
            ]
        );
        assert_eq!(
            on_live("alter table t validate constraint t_r_fk"),
            ["validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table t validate constraint t_r_fk"]
        );
    }

    #[test]
    fn dropping_a_foreign_key_locks_the_other_table_too() {
        assert_eq!(
            on_live("alter table t drop constraint t_r_fk"),
            ["brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table t drop constraint t_r_fk"]
        );
    }

    #[test]
    fn a_primary_key_over_columns_that_may_be_null_is_refused() {
        let with =
            |index: &str| on_live(&format!("alter table t add constraint k primary key using index {index}"));
        assert_eq!(with("t_a"), ["blocking DDL_NO_RULE"]);
        assert!(with("t_uq")[0].starts_with("brief, ACCESS EXCLUSIVE t"));
    }
}
