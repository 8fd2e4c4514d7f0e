//! DROP COLUMN: a brief lock, and clients that still use the column fail.

use super::{
    alter_table::{Part, Verdict},
    warning,
};
use crate::{
    ddl::{
        lock::{LockMode, LockRole, LockTaken},
        parse::node::{AlterTableType, DropBehavior},
    },
    facts::ConstraintKind,
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let command = part.command;
    // CASCADE drops what rests on the column on other tables, each under a lock of its own: no rule.
    if command.subtype() != AlterTableType::AtDropColumn || command.behavior() == DropBehavior::DropCascade {
        return None;
    }
    let mut verdict = Verdict::brief(format!("drop column {}", command.name), LockMode::AccessExclusive)?;
    // A foreign key over the column falls with it, under ACCESS EXCLUSIVE on the other table too.
    verdict.others = part
        .live
        .iter()
        .flat_map(|table| &table.constraints)
        .filter(|constraint| constraint.kind == ConstraintKind::ForeignKey)
        .filter(|constraint| names_column(&constraint.definition, &command.name))
        .filter_map(|constraint| constraint.references.clone())
        .map(|relation| LockTaken { relation, mode: LockMode::AccessExclusive, role: LockRole::Referenced })
        .collect();
    verdict.findings.push(warning(
        part.statement,
        "DDL_CLIENT_VISIBLE",
        format!("column {} of {} is gone for every client that still uses it", command.name, part.table.plain()),
        "Release clients that do not use it first; statements prepared with SELECT * fail once and must be prepared again.",
    ));
    Some(verdict)
}

/// Whether `FOREIGN KEY (a, b) REFERENCES …` has the column on its own side.
fn names_column(definition: &str, column: &str) -> bool {
    let own = definition.split_once(" REFERENCES ").map_or(definition, |(own, _)| own);
    let columns = own.split_once('(').map_or("", |(_, columns)| columns);
    columns.split([',', ')']).any(|name| name.trim().trim_matches('"') == column)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_foreign_key_over_it_locks_the_other_table() {
        assert_eq!(
            on_live("alter table t drop column b"),
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table t drop column b",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
        assert_eq!(
            on_live("alter table t drop column a")[0],
            "brief, ACCESS EXCLUSIVE t: alter table t drop column a"
        );
    }
}
