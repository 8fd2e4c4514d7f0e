//! What names a row in WAL, and what finds it on green.

use super::{Seen, view};
use crate::{
    facts::{Facts, Generated, Index, ReplicaIdentity, Table, TableKind},
    pg::name::Ident,
    plan::{ChangeOp, Plan, RevocationRule},
};

pub(super) fn missing(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let why = |table: &Table| match table.key() {
        None => Some(why_no_key(table)),
        Some(key) => generated_in_identity(table, &key).filter(|_| blue.major() >= REFUSES_GENERATED),
    };
    view::with_rows(plan, blue)
        .filter_map(|table| {
            let failure = "once published, every UPDATE and DELETE of it fails on blue";
            Some(Seen::blue(table.name.plain(), format!("{}; {failure}", why(table)?)))
        })
        .collect()
}

/// From this major on a server refuses changes of a table whose identity has columns that are not published.
const REFUSES_GENERATED: u32 = 18;

fn generated_in_identity(table: &Table, key: &[Ident]) -> Option<String> {
    let whole = table.identity == ReplicaIdentity::Full;
    let column = table
        .columns
        .iter()
        .find(|column| column.generated != Generated::No && (whole || key.contains(&column.name)))?;
    Some(format!(
        "its replica identity has the generated column {}, which is not published",
        column.name.as_str()
    ))
}

fn why_no_key(table: &Table) -> String {
    match &table.identity {
        ReplicaIdentity::Nothing => "its replica identity is NOTHING".into(),
        ReplicaIdentity::Index(name) => match table.indexes.iter().find(|index| index.name == *name) {
            Some(index) if !index.valid => format!("its identity index {} is invalid", name.as_str()),
            Some(_) => format!("its identity index {} is deferrable", name.as_str()),
            None => format!("its identity index {} is gone", name.as_str()),
        },
        _ => match table.indexes.iter().find(|index| index.primary) {
            Some(index) if !index.valid => "its primary key's index is invalid".into(),
            Some(_) => "its primary key is deferrable, which is no replica identity".into(),
            None => "it has no primary key".into(),
        },
    }
}

fn full_without_key(table: &Table) -> bool {
    table.identity == ReplicaIdentity::Full && table.key().is_some_and(|key| key.is_empty())
}

pub(super) fn full_is_slow(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let what =
        "its replica identity is FULL and it has no unique key: each change reads the whole table on green";
    view::blue_tables(plan, facts, what, |_, table| full_without_key(table))
}

/// The types whose order we know as well as the server does.
const RANGED_TYPES: [&str; 4] = ["smallint", "integer", "bigint", "uuid"];

pub(super) fn no_ranges(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    view::with_rows(plan, blue)
        .filter(|table| plan.replicate.chunks.names(&table.name))
        .filter_map(|table| Some(Seen::blue(table.name.plain(), why_no_ranges(table)?)))
        .collect()
}

fn why_no_ranges(table: &Table) -> Option<&'static str> {
    let key = table.indexes.iter().find(|index| index.primary && index.valid);
    let ranged = |column: &Ident| {
        table.columns.iter().any(|it| it.name == *column && RANGED_TYPES.contains(&it.type_name.as_str()))
    };
    let is_ranged = key.is_some_and(|key| matches!(key.columns.as_slice(), [column] if ranged(column)));
    if !is_ranged {
        return Some("it has no primary key of one integer or uuid column");
    }
    if !matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Full) {
        return Some("its primary key is not its replica identity, so changes do not tell it");
    }
    table.indexes.iter().any(|index| index.unique && !index.primary).then_some(
        "it has another unique index, and a value that goes from one row to another would be in two ranges",
    )
}

pub(super) fn green_cannot_find(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some((blue, green)) = view::both(facts) else { return Vec::new() };
    if !view::green_has_its_shape(plan, facts) {
        return Vec::new();
    }
    let mut seen = Vec::new();
    for table in view::unmapped(plan, blue).filter(|table| table.kind == TableKind::Plain) {
        let (Some(there), Some(key)) = (green.table(&table.name), table.key()) else { continue };
        let finds = |index: &Index| {
            index.unique
                && index.valid
                && index.plain
                && index.columns.iter().all(|column| key.contains(column))
        };
        if !there.indexes.iter().any(finds) && table.identity != ReplicaIdentity::Full {
            let what = format!("no unique index of green finds a row by {}", view::list(&key));
            seen.push(Seen::green(table.name.plain(), what));
        }
    }
    seen
}

pub(super) fn revocation_key(plan: &Plan, facts: &Facts) -> Vec<Seen> {
    let Some(blue) = &facts.blue else { return Vec::new() };
    let mut seen = Vec::new();
    for (at, rule) in plan.revocations.iter().enumerate() {
        let field = format!("revocations[{at}]");
        let Some(table) = blue.table(&rule.table) else {
            seen.push(Seen::plan(
                format!("{field}.table"),
                format!("blue has no table {}", rule.table.plain()),
            ));
            continue;
        };
        let carried = match table.identity {
            ReplicaIdentity::Full => table.columns.iter().map(|column| column.name.clone()).collect(),
            _ => table.key().unwrap_or_default(),
        };
        let lacks = |columns: Vec<&Ident>, key: &str| {
            let lost: Vec<_> = columns.into_iter().filter(|column| !carried.contains(column)).collect();
            let what = format!(
                "{} of {} is not in its replica identity ({}), so a DELETE does not carry it",
                view::list(lost.iter().copied()),
                rule.table.plain(),
                view::list(&carried)
            );
            (!lost.is_empty()).then(|| Seen::plan(format!("{field}.{key}"), what))
        };
        seen.extend(lacks(rule.key.iter().collect(), "key"));
        // The deleted row must say which change of the same transaction would make it a rotation.
        let same_tx = rule.when.unless_same_tx.iter().filter(|_| rule.when.op == ChangeOp::Delete);
        seen.extend(lacks(same_tx.map(|same| &same.match_column).collect(), "when.unless_same_tx.match"));
    }
    seen
}

pub(super) fn revocation_ungated(plan: &Plan, _: &Facts) -> Vec<Seen> {
    let ungated = |(at, rule): (usize, &RevocationRule)| {
        let what = format!(
            "rule `{}` is about table {}, which is not in replicate.tables, so writes to it are not stopped in the cutover",
            rule.name,
            rule.table.plain()
        );
        (!view::is_selected(plan, &rule.table)).then(|| Seen::plan(format!("revocations[{at}].table"), what))
    };
    plan.revocations.iter().enumerate().filter_map(ungated).collect()
}
