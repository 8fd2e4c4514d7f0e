//! What contradicts itself in the revocation rules.

use super::{NAME_HELP, Notes, OUR_SCHEMA, is_name};
use crate::plan::{ChangeOp, RevocationRule};
use std::collections::BTreeSet;

pub(super) fn revocations(rules: &[RevocationRule], notes: &mut Notes) {
    let mut names = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let field = format!("revocations[{at}]");
        if !is_name(&rule.name) {
            let what = format!("`{}` cannot name a rule", rule.name);
            notes.block("BAD_NAME", format!("{field}.name"), what, NAME_HELP);
        }
        if !names.insert(&rule.name) {
            let what = format!("two rules are named `{}`", rule.name);
            notes.block("CONTRADICTION", format!("{field}.name"), what, "give each rule a name of its own");
        }
        let reserved = [Some(&rule.table), rule.replay.delete.as_ref()];
        if reserved.into_iter().flatten().any(|table| table.schema.as_str() == OUR_SCHEMA) {
            notes.block(
                "RESERVED_SCHEMA",
                &field,
                "a rule cannot concern schema `migrate`",
                "name a table of the application",
            );
        }
        revocation_key(rule, &field, notes);
        revocation_change(rule, &field, notes);
        notes.exactly_one(
            &format!("{field}.replay"),
            &[("delete", rule.replay.delete.is_some()), ("update", rule.replay.update.is_some())],
        );
        if rule.replay.update.as_ref().is_some_and(|update| update.set.is_empty()) {
            notes.block(
                "BAD_VALUE",
                format!("{field}.replay.update.set"),
                "the update sets nothing",
                "give at least one column",
            );
        }
    }
}

fn revocation_key(rule: &RevocationRule, field: &str, notes: &mut Notes) {
    let distinct: BTreeSet<_> = rule.key.iter().collect();
    if rule.key.is_empty() || distinct.len() < rule.key.len() {
        notes.block(
            "BAD_VALUE",
            format!("{field}.key"),
            "the key is empty or names a column twice",
            "name each column that identifies the revoked row once",
        );
    }
    for number in 1..=rule.key.len() {
        if !mentions_parameter(&rule.valid, number) {
            notes.block(
                "BAD_VALUE",
                format!("{field}.valid"),
                format!("the query does not use ${number}, so it does not look for the revoked row"),
                "use one parameter for each column of `key`, in its order",
            );
        }
    }
}

/// Whether `$number` stands in the text, not as the beginning of a longer number.
fn mentions_parameter(sql: &str, number: usize) -> bool {
    let parameter = format!("${number}");
    sql.match_indices(&parameter)
        .any(|(at, _)| !sql[at + parameter.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

fn revocation_change(rule: &RevocationRule, field: &str, notes: &mut Notes) {
    let without = |key: &str, there: bool, op: &str, notes: &mut Notes| {
        if there {
            notes.block(
                "CONTRADICTION",
                format!("{field}.when.{key}"),
                format!("{op} has no {key} row"),
                format!("remove `{key}`"),
            );
        }
    };
    match rule.when.op {
        ChangeOp::Insert => without("old", rule.when.old.is_some(), "an insert", notes),
        ChangeOp::Delete => without("new", rule.when.new.is_some(), "a delete", notes),
        ChangeOp::Update => {}
    }
}
