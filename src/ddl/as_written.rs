//! Files run as they are written, in one transaction of ours, on a database that nobody uses: green before it is opened.

use super::{
    parse::{NodeEnum, node::TransactionStmtKind},
    source::{self, SqlFile, Statement},
};
use crate::{
    error::Error,
    finding::{Finding, Place, Severity},
};

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
                    "this runs in one transaction of ours, which must not be taken back in part",
                    "Take the statements that are not wanted out of the file.",
                ));
            }
        }
    }
    Ok(kept)
}

/// What Postgres would refuse in a file only when it comes to it, hours after the copy began: statements that cannot run in a
/// transaction. Of nobody's use on a database that nobody uses.
///
/// # Errors
/// As [`statements`].
pub fn unfit(file: &SqlFile) -> Result<Vec<Finding>, Error> {
    statements(file)?;
    let (statements, _) = source::statements(file).map_err(|error| source::explain(file, &error))?;
    let found = statements.iter().filter_map(|statement| {
        let (what, help) = refused_in_transaction(&statement.tree)?;
        Some(Finding {
            code: "NO_TRANSACTION".into(),
            severity: Severity::Blocking,
            place: statement.place.clone(),
            what: format!("{what} cannot run in a transaction, and a file of `schema.after_copy` is one"),
            help: help.into(),
        })
    });
    Ok(found.collect())
}

fn refused_in_transaction(tree: &NodeEnum) -> Option<(&'static str, &'static str)> {
    const PLAIN: &str = "nobody uses green yet: leave CONCURRENTLY out";
    let names = |options: &[super::parse::node::Node], wanted: &str| {
        options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => option.defname == wanted,
            _ => false,
        })
    };
    match tree {
        NodeEnum::IndexStmt(index) if index.concurrent => Some(("CREATE INDEX CONCURRENTLY", PLAIN)),
        NodeEnum::DropStmt(drop) if drop.concurrent => Some(("DROP INDEX CONCURRENTLY", PLAIN)),
        NodeEnum::ReindexStmt(reindex) if names(&reindex.params, "concurrently") => {
            Some(("REINDEX CONCURRENTLY", PLAIN))
        }
        NodeEnum::AlterTableStmt(alter) => {
            let detaches = |command: &super::parse::node::Node| match &command.node {
                Some(NodeEnum::AlterTableCmd(command)) => match command.def.as_ref().map(|def| &def.node) {
                    Some(Some(NodeEnum::PartitionCmd(partition))) => partition.concurrent,
                    _ => false,
                },
                _ => false,
            };
            alter.cmds.iter().any(detaches).then_some(("DETACH PARTITION CONCURRENTLY", PLAIN))
        }
        NodeEnum::VacuumStmt(vacuum) if vacuum.is_vacuumcmd => Some((
            "VACUUM",
            "leave it out; `ANALYZE` alone may stay, and comes after the last file in any case",
        )),
        NodeEnum::CreatedbStmt(_) | NodeEnum::DropdbStmt(_) | NodeEnum::AlterSystemStmt(_) => {
            Some(("a statement about the whole server", "run it by hand before the migration"))
        }
        _ => None,
    }
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
    fn what_no_transaction_can_run_is_found_before_anything_runs() {
        let places = |text: &str| -> Vec<String> {
            let found = unfit(&SqlFile::new("a.sql", text)).unwrap();
            found.iter().map(|finding| format!("{} {}", finding.place, finding.what)).collect()
        };
        let found = places(
            "create index concurrently i on t (a);\nvacuum t;\nreindex (concurrently) table t;\n\
             drop index concurrently i;\nalter table t detach partition u concurrently;",
        );
        let words = ["CREATE INDEX", "VACUUM", "REINDEX", "DROP INDEX", "DETACH PARTITION"];
        for (at, word) in words.iter().enumerate() {
            assert!(found[at].starts_with(&format!("a.sql:{}:1 {word}", at + 1)), "{found:?}");
        }
        assert_eq!(places("create index i on t (a); analyze t; reindex table t; begin; commit"), [""; 0]);
    }

    #[test]
    fn what_would_be_taken_back_is_refused_with_its_place() {
        let error = texts("begin;\nsavepoint s;\ncommit;").unwrap_err();
        assert!(error.starts_with("a.sql:2:1: this runs in one transaction"), "{error}");
        assert!(texts("create tabel t ()").unwrap_err().starts_with("a.sql:1:8: syntax error"));
    }
}
