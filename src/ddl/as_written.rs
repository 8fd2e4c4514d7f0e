//! Files run as they are written, in one transaction of ours, on a database that nobody uses: green before it has rows.

use super::{
    parse::{NodeEnum, node::TransactionStmtKind},
    source::{self, SqlFile, Statement},
};
use crate::{error::Error, finding::Place};

/// A statement to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsWritten {
    /// Its text, no semicolon.
    pub sql: String,
    /// Where it is.
    pub place: Place,
}

/// The schema in which a file's unqualified names are looked up until it says otherwise, as when it is made online.
pub const FIRST_SCHEMA: &str = "public";

/// The statements of a file. Its own BEGIN and COMMIT are left out, since they would end the transaction around all files.
///
/// # Errors
/// The first thing in it that cannot be read, or a transaction that it takes back, with the line and a caret.
pub fn statements(file: &SqlFile) -> Result<Vec<AsWritten>, Error> {
    let (statements, _) = source::statements(file).map_err(|error| source::explain(file, &error))?;
    let mut kept = Vec::new();
    for statement in statements {
        match transaction_command(&statement) {
            None => kept.push(AsWritten { sql: statement.sql, place: statement.place }),
            Some(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {}
            Some(TransactionStmtKind::TransStmtCommit) => {}
            Some(_) => {
                return Err(source::explain_at(
                    file,
                    statement.span,
                    "all files run in one transaction, which must not be taken back in part",
                    "Take the statements that are not wanted out of the file.",
                ));
            }
        }
    }
    Ok(kept)
}

fn transaction_command(statement: &Statement) -> Option<TransactionStmtKind> {
    match &statement.tree {
        NodeEnum::TransactionStmt(transaction) => Some(transaction.kind()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<String>, String> {
        let read = statements(&SqlFile::new("a.sql", text)).map_err(|error| error.what)?;
        Ok(read.into_iter().map(|one| format!("{} {}", one.place, one.sql)).collect())
    }

    #[test]
    fn begin_and_commit_are_left_out() {
        let found = texts("begin;\nset search_path = app;\ncreate table t (id int);\ncommit;").unwrap();
        assert_eq!(found, ["a.sql:2:1 set search_path = app", "a.sql:3:1 create table t (id int)"]);
    }

    #[test]
    fn what_would_be_taken_back_is_refused_with_its_place() {
        let error = texts("begin;\nsavepoint s;\ncommit;").unwrap_err();
        assert!(error.starts_with("a.sql:2:1: all files run in one transaction"), "{error}");
        assert!(texts("create tabel t ()").unwrap_err().starts_with("a.sql:1:8: syntax error"));
    }
}
