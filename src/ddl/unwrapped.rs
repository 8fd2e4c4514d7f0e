//! Statements that a tool would put into a transaction, in which Postgres refuses them.

use super::{
    directory::RunAs,
    parse::{NodeEnum, Parsed, node},
    source::SqlFile,
};
use crate::finding::{Finding, Place, Severity};
use node::{AlterTableType, TransactionStmtKind};

/// A warning at the first statement with which the file's own tool would fail; here it runs by itself.
pub(super) fn finding(file: &SqlFile, parsed: &[Parsed], place: impl Fn(usize) -> Place) -> Option<Finding> {
    let tool = file.convention.tool;
    // A file that has transactions of its own means to be outside the tool's.
    if parsed.iter().any(|one| matches!(&one.tree, NodeEnum::TransactionStmt(_))) {
        return explicit(parsed, place);
    }
    let alone = parsed.iter().filter(|one| runs_alone(&one.tree)).count();
    let wrapped = match file.convention.run_as {
        RunAs::Statements => false,
        RunAs::Transaction => true,
        RunAs::TransactionIfAny => alone < parsed.len(),
        RunAs::Message => parsed.len() > 1,
    };
    let first = parsed.iter().find(|one| runs_alone(&one.tree)).filter(|_| wrapped)?;
    Some(warning(
        place(first.start),
        format!(
            "{tool} puts this into one transaction with the rest of the file, where Postgres refuses it; here it runs by itself"
        ),
        format!("So that {tool} can run it as well: {}.", tool.without_transaction()),
    ))
}

/// The same between a BEGIN and its COMMIT, whoever runs the file.
fn explicit(parsed: &[Parsed], place: impl Fn(usize) -> Place) -> Option<Finding> {
    let mut open = false;
    for one in parsed {
        match &one.tree {
            NodeEnum::TransactionStmt(transaction) => match transaction.kind() {
                TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => open = true,
                TransactionStmtKind::TransStmtCommit | TransactionStmtKind::TransStmtRollback => open = false,
                _ => {}
            },
            tree if open && runs_alone(tree) => {
                return Some(warning(
                    place(one.start),
                    "this stands between BEGIN and COMMIT, where Postgres refuses it; here it runs by itself"
                        .into(),
                    "So that psql can run it as well: put it before BEGIN or after COMMIT.".into(),
                ));
            }
            _ => {}
        }
    }
    None
}

fn warning(place: Place, what: String, help: String) -> Finding {
    Finding { code: "DDL_REFUSED_IN_TRANSACTION".into(), severity: Severity::Warning, place, what, help }
}

/// Whether Postgres refuses it inside a transaction.
fn runs_alone(tree: &NodeEnum) -> bool {
    match tree {
        NodeEnum::IndexStmt(index) => index.concurrent,
        NodeEnum::DropStmt(drop) => drop.concurrent,
        NodeEnum::ReindexStmt(reindex) => reindex.params.iter().any(|option| {
            matches!(&option.node, Some(NodeEnum::DefElem(option)) if option.defname == "concurrently")
        }),
        NodeEnum::AlterTableStmt(alter) => alter.cmds.iter().any(|command| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => match command.def.as_ref().and_then(|def| def.node.as_ref()) {
                Some(NodeEnum::PartitionCmd(partition)) => {
                    command.subtype() == AlterTableType::AtDetachPartition && partition.concurrent
                }
                _ => false,
            },
            _ => false,
        }),
        NodeEnum::VacuumStmt(vacuum) => vacuum.is_vacuumcmd,
        NodeEnum::AlterSystemStmt(_)
        | NodeEnum::CreatedbStmt(_)
        | NodeEnum::DropdbStmt(_)
        | NodeEnum::CreateTableSpaceStmt(_)
        | NodeEnum::DropTableSpaceStmt(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::{
        directory::{Convention, Tool},
        source,
    };

    fn warned(run_as: RunAs, text: &str) -> bool {
        let file =
            SqlFile { convention: Convention { tool: Tool::Goose, run_as }, ..SqlFile::new("a.sql", text) };
        let (_, remarks) = source::statements(&file).unwrap();
        remarks.iter().any(|finding| finding.code == "DDL_REFUSED_IN_TRANSACTION")
    }

    #[test]
    fn a_statement_its_tool_would_fail_with_is_said() {
        let index = "create index concurrently i on t (a);";
        let both = "create index concurrently i on t (a); select 1;";
        let two = "create index concurrently i on t (a); drop index concurrently j;";
        for (run_as, one_alone, with_another, two_alone) in [
            (RunAs::Statements, false, false, false),
            (RunAs::Message, false, true, true),
            (RunAs::TransactionIfAny, false, true, false),
            (RunAs::Transaction, true, true, true),
        ] {
            assert_eq!(warned(run_as, index), one_alone, "{run_as:?}");
            assert_eq!(warned(run_as, both), with_another, "{run_as:?}");
            assert_eq!(warned(run_as, two), two_alone, "{run_as:?}");
        }
        assert!(warned(RunAs::Statements, "begin; vacuum t; commit;"));
        assert!(!warned(RunAs::Statements, "begin; select 1; commit; reindex index concurrently i;"));
        assert!(warned(RunAs::Transaction, "alter table p detach partition q concurrently"));
        assert!(!warned(RunAs::Transaction, "analyze t; alter table p detach partition q"));
    }
}
