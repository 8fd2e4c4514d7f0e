//! BEGIN and COMMIT: the files' transactions are dissolved, since locks would be held from the first statement to the last.

use super::{Outcome, Rule, blocking, info};
use crate::ddl::{
    parse::{NodeEnum, node::TransactionStmtKind},
    scene::Scene,
    source::Statement,
};

pub(super) const RULE: Rule = Rule {
    name: "transaction",
    about: "BEGIN and COMMIT are dissolved: locks would be held from the first statement to the last.",
    manual: "sql-begin.html",
    apply: rule,
};

fn rule(statement: &Statement, _: &Scene) -> Option<Outcome> {
    let NodeEnum::TransactionStmt(transaction) = &statement.tree else { return None };
    match transaction.kind() {
        TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => {
            Outcome::finding(info(
                statement,
                "DDL_TRANSACTION_DISSOLVED",
                "the transaction is dissolved: each statement runs by itself, in this order, so that no lock is held over the next".into(),
                "Nothing to do. If the run stops in between, it is resumed there; what is done stays done.",
            ))
        }
        TransactionStmtKind::TransStmtCommit
        | TransactionStmtKind::TransStmtSavepoint
        | TransactionStmtKind::TransStmtRelease => Some(Outcome::default()),
        _ => Outcome::finding(blocking(
            statement,
            "DDL_TRANSACTION",
            "ROLLBACK and two-phase commit have no meaning here: statements run one by one".into(),
            "Take the statements that are not wanted out of the file.",
        )),
    }
}
