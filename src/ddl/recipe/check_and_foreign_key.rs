//! ADD CHECK and ADD FOREIGN KEY: NOT VALID under a brief lock, then VALIDATE beside readers and writers, in another transaction.
//!
//! In one transaction the first lock would be kept while the rows are read.

use super::{Answer, Pieces, Whole};
use crate::{
    ddl::{
        parse::{
            self,
            node::{self, ConstrType},
        },
        parts,
    },
    finding::{Finding, Severity},
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let Some(constraint) = whole.added(at) else { return Answer::AsIs };
    let foreign = match constraint.contype() {
        ConstrType::ConstrCheck => false,
        ConstrType::ConstrForeign => true,
        _ => return Answer::AsIs,
    };
    if constraint.skip_validation || !constraint.is_enforced {
        return Answer::AsIs;
    }
    // On a partitioned table a foreign key cannot be NOT VALID before 18.
    if foreign && whole.is_partitioned() && whole.scene.major().is_none_or(|major| major < 18) {
        return Answer::AsIs;
    }
    if !whole.is_alone() {
        return whole.later(at);
    }
    let name = whole.names.of(constraint, None);
    let here = if constraint.conname.is_empty() {
        format!("add constraint {name} {} NOT VALID", parts::without_name(after_add(whole.text(at))))
    } else {
        format!("{} NOT VALID", whole.text(at))
    };
    let mut pieces = Pieces {
        here: vec![here],
        after: vec![whole.statement_of(&format!("validate constraint {name}"))],
        ..Pieces::default()
    };
    if foreign {
        pieces.findings.extend(unindexed(whole, constraint));
    }
    Answer::Pieces(pieces)
}

/// What follows ADD.
pub(super) fn after_add(command: &str) -> &str {
    command.get(3..).unwrap_or_default().trim_start()
}

/// Without an index on the referring columns, each DELETE on the other table reads this one.
fn unindexed(whole: &Whole, constraint: &node::Constraint) -> Option<Finding> {
    unindexed_column(whole, parse::strings(&constraint.fk_attrs).first()?)
}

pub(super) fn unindexed_column(whole: &Whole, column: &str) -> Option<Finding> {
    if whole.live.is_none() || whole.scene.is_indexed(&whole.table, column) {
        return None;
    }
    let table = whole.table.plain();
    Some(whole.finding(
        Severity::Info,
        "DDL_FOREIGN_KEY_UNINDEXED",
        format!("no index of {table} has {column}: every DELETE and key change on the referenced table will read it whole"),
        "Put a CREATE INDEX on the referring columns before this statement.",
    ))
}
