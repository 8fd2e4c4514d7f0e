//! TRUNCATE: the rows are gone, under ACCESS EXCLUSIVE for a moment; CASCADE is written out as the tables it empties.

use super::{
    Outcome, Rule, as_written,
    drop_table::once,
    expand::{cascade_unseen, derived, exclusive, fails, listed},
    unknown_relation, warning,
};
use crate::{
    ddl::{
        lock::{Cost, LockRole},
        parse::{
            NodeEnum,
            node::{DropBehavior, TruncateStmt},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "truncate";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "The rows are gone, under ACCESS EXCLUSIVE for a moment; CASCADE is written out as the tables it empties.",
    manual: "sql-truncate.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::TruncateStmt(truncate) = &statement.tree else { return None };
    let cascade = truncate.behavior() == DropBehavior::DropCascade;
    if cascade && !scene.looked() {
        return cascade_unseen(statement, "TRUNCATE");
    }
    let named: Vec<TableName> = truncate
        .relations
        .iter()
        .filter_map(|item| match &item.node {
            Some(NodeEnum::RangeVar(range)) => Some(scene.range(range, &statement.search_path)),
            _ => None,
        })
        .collect();
    if let Some(missing) = named.iter().find(|name| matches!(scene.relation(name), Known::Missing)) {
        return Outcome::finding(unknown_relation(statement, missing));
    }
    let all = with_referring(scene, &named);
    if !cascade && all.len() > named.len() {
        let others = listed(all[named.len()..].iter().map(TableName::plain));
        let what = format!(
            "the server refuses to truncate {}: {others} refer to it",
            listed(named.iter().map(TableName::plain))
        );
        return fails(statement, what, "Name them in the same TRUNCATE, if their rows are to go as well.");
    }
    let mut locks = Vec::new();
    for name in all.iter().filter(|name| !matches!(scene.relation(name), Known::New)) {
        locks.push(exclusive(name, LockRole::Target));
        locks
            .extend(scene.all_partitions(name).iter().map(|part| exclusive(&part.name, LockRole::Partition)));
    }
    let tables = listed(all.iter().map(TableName::plain));
    let explicit = if cascade { Some(derived(statement, written_out(truncate, &all))?) } else { None };
    let written = explicit.as_ref().unwrap_or(statement);
    let mut step = as_written(written, RECIPE, format!("truncate {tables}"), Cost::brief(once(locks)));
    step.why = "the tables get new, empty files; the lock is held for a moment, whatever their size".into();
    let finding = warning(
        statement,
        "DDL_ROWS_GONE",
        format!("every row of {tables} is gone at once, also for transactions that began before"),
        "Make sure that no client needs them; keep a copy if they may be wanted again.",
    );
    Some(Outcome { steps: vec![step], findings: vec![finding] })
}

/// The tables, and those whose foreign keys refer to them, at every distance.
fn with_referring(scene: &Scene, named: &[TableName]) -> Vec<TableName> {
    let mut all = named.to_vec();
    let mut at = 0;
    while at < all.len() {
        for key in scene.foreign_keys_to(&all[at].clone()) {
            if !all.contains(&key.table) {
                all.push(key.table);
            }
        }
        at += 1;
    }
    all
}

fn written_out(truncate: &TruncateStmt, tables: &[TableName]) -> String {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let restart = if truncate.restart_seqs { " restart identity" } else { "" };
    format!("truncate {}{restart}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn cascade_is_written_out() {
        assert_eq!(on_live("truncate t"), ["brief, ACCESS EXCLUSIVE t: truncate t", "warning DDL_ROWS_GONE"]);
        assert_eq!(on_live("truncate r"), ["blocking DDL_FAILS"]);
        assert_eq!(
            on_live("truncate r restart identity cascade")[0],
            "brief, ACCESS EXCLUSIVE r + ACCESS EXCLUSIVE t: truncate \"public\".\"r\", \"public\".\"t\" restart identity"
        );
        assert_eq!(told("truncate t cascade", None), ["blocking DDL_CASCADE"]);
        assert_eq!(on_live("truncate nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn partitions_are_emptied_with_their_table() {
        assert_eq!(
            on_live("truncate sub")[0],
            "brief, ACCESS EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: truncate sub"
        );
    }
}
