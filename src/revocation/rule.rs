//! What a revocation is: which changes of a transaction a rule looks at, and whose keys they name.
//!
//! The predicates are not judged here: [`super::predicate`] asks Postgres.

use super::transaction::{Change, Row, Transaction, Value};
use crate::error::{Error, Kind, Result};
use crate::plan::{ChangeOp, RevocationRule};
use std::collections::HashMap;

/// A revocation that was found in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its place among the messages its transaction could give; the same at every reading.
    pub ordinal: u64,
    /// The rule's name.
    pub rule: String,
    /// The key columns' values, as text.
    pub key: Vec<String>,
}

/// Whether a rule needs a column's values: for its key, its exception, or a predicate.
pub fn needs_column(rule: &RevocationRule, column: &str) -> bool {
    let when = &rule.when;
    rule.key.iter().any(|key| key.as_str() == column)
        || when.unless_same_tx.as_ref().is_some_and(|same| same.match_column.as_str() == column)
        || [&when.old, &when.new].into_iter().flatten().any(|predicate| mentions(predicate, rule, column))
}

/// Whether a predicate may read a column. Errs towards yes: a column that is only shipped in vain costs little, and
/// an unknown value that is wrongly thought to matter makes one revocation too many, never one too few.
pub fn mentions(predicate: &str, rule: &RevocationRule, column: &str) -> bool {
    let predicate = predicate.to_lowercase();
    let written = |name: &str| predicate.contains(&name.replace('"', "\"\"").to_lowercase());
    // The table's name stands for the whole row, and `U&"…"` can spell any name.
    written(column) || written(rule.table.name.as_str()) || predicate.contains("u&\"")
}

/// The transaction's changes that a rule looks at, those that the same transaction excuses left out.
pub fn candidates<'a>(rule: &RevocationRule, transaction: &'a Transaction) -> Vec<&'a Change> {
    let of_table =
        |op: ChangeOp| transaction.changes.iter().filter(move |c| c.op == op && c.table.table == rule.table);
    let Some(same) = &rule.when.unless_same_tx else { return of_table(rule.when.op).collect() };
    let column = same.match_column.as_str();
    let mut excuses: HashMap<&[u8], u64> = HashMap::new();
    for value in of_table(same.op).filter_map(|change| match_value(change, column)) {
        *excuses.entry(value).or_default() += 1;
    }
    // A change does not excuse itself.
    let own = u64::from(same.op == rule.when.op);
    of_table(rule.when.op)
        .filter(|change| {
            let value = match_value(change, column);
            // An unknown or null value equals no other: one revocation too many rather than one too few.
            value.is_none_or(|value| excuses.get(value).copied().unwrap_or(0) <= own)
        })
        .collect()
}

/// The value by which a change is compared with others: after it, or before it when that is all there is.
fn match_value<'a>(change: &'a Change, column: &str) -> Option<&'a [u8]> {
    let known = |row: &'a Option<Row>| match row.as_ref()?.value(column) {
        Value::Text(text) => Some(&text[..]),
        Value::Null | Value::Unknown => None,
    };
    known(&change.new).or_else(|| known(&change.old))
}

/// The revocations that a change is: one, or two when it also changed the key, since green may have either.
///
/// `rule_at` and `rules` place the message among all that the transaction could give.
///
/// # Errors
/// [`Kind::Server`] when blue's log does not carry the key, so that the row cannot be named.
pub fn found(rule: &RevocationRule, rule_at: usize, rules: usize, change: &Change) -> Result<Vec<Found>> {
    let mut keys: Vec<Vec<String>> = Vec::with_capacity(1);
    for row in [&change.new, &change.old].into_iter().flatten() {
        match key_of(rule, row) {
            Some(key) if !keys.contains(&key) => keys.push(key),
            _ => {}
        }
    }
    if keys.is_empty() {
        return Err(no_key(rule));
    }
    let first = (change.ordinal * rules as u64 + rule_at as u64) * 2;
    let found = |(at, key)| Found { ordinal: first + at as u64, rule: rule.name.clone(), key };
    Ok(keys.into_iter().enumerate().map(found).collect())
}

fn key_of(rule: &RevocationRule, row: &Row) -> Option<Vec<String>> {
    let text = |column: &crate::pg::name::Ident| match row.value(column.as_str()) {
        Value::Text(text) => std::str::from_utf8(text).ok().map(str::to_owned),
        Value::Null | Value::Unknown => None,
    };
    rule.key.iter().map(text).collect()
}

fn no_key(rule: &RevocationRule) -> Error {
    Error::new(
        Kind::Server,
        format!("blue's log does not carry the key of a revoked row of {} (rule `{}`)", rule.table.plain(), rule.name),
    )
    .hint(format!(
        "Give the table a replica identity with the rule's key columns: alter table {} replica identity full.",
        rule.table
    ))
}

#[cfg(test)]
mod tests;
