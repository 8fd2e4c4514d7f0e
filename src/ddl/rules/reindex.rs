//! REINDEX INDEX and TABLE: CONCURRENTLY.

use super::{Outcome, as_written, blocking, concurrently, info, unknown_relation};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::{Undo, Verify},
    },
    facts::{ConstraintKind, Table},
    pg::name::TableName,
};

const RECIPE: &str = "reindex";

pub(super) fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    use node::ReindexObjectType as Object;
    let NodeEnum::ReindexStmt(reindex) = &statement.tree else { return None };
    let whole_table = match reindex.kind() {
        Object::ReindexObjectIndex => false,
        Object::ReindexObjectTable => true,
        _ => return None,
    };
    let relation = scene.range(reindex.relation.as_ref()?, &statement.search_path);
    if matches!(relation.schema.as_str(), "pg_catalog" | "information_schema" | "pg_toast") {
        return None;
    }
    let table = match (whole_table, scene.relation(&relation), scene.index(&relation)) {
        (true, Known::Live(table), _) | (false, _, Some((table, _))) => Some(table),
        _ if !scene.looked() || scene.made_index(&relation).is_some() => None,
        (true, Known::LiveOther | Known::New, _) => None,
        _ => return Outcome::finding(unknown_relation(statement, &relation)),
    };
    if let Some(finding) = exclusion(statement, table, &relation, whole_table) {
        return Outcome::finding(finding);
    }
    let was_concurrent = is_concurrent(reindex);
    let mut wanted = reindex.clone();
    let mut edits = Vec::new();
    if !was_concurrent {
        wanted.params.push(concurrently_option());
        let tokens = parse::tokens(&statement.sql).ok()?;
        let object = if whole_table { node::Token::Table } else { node::Token::Index };
        let at = tokens.get(edit::find(&tokens, object)?)?.end;
        edits.push(Edit::insert(at, " CONCURRENTLY"));
    }
    let sql = edit::proved(&statement.sql, edits, &NodeEnum::ReindexStmt(wanted))?;
    let made_on = scene.made_index(&relation).unwrap_or(&relation);
    let locked = table.map_or_else(|| made_on.clone(), |table| table.name.clone());
    let lock = |mode| LockTaken { relation: locked.clone(), mode, role: LockRole::Table };
    let object = if whole_table { "table" } else { "index" };
    let title = format!("reindex {object} {}", relation.plain());
    let step =
        as_written(statement, RECIPE, title, Cost::building(vec![lock(LockMode::ShareUpdateExclusive)]));
    let verify = Verify::Rebuilt { relation: relation.clone(), whole_table };
    let mut step = concurrently(step, sql, verify);
    step.was = (!was_concurrent).then(|| Cost::building(vec![lock(LockMode::Share)]));
    step.why = "a new index is built beside the old one and takes its place".into();
    step.undo = Some(Undo::Nothing);
    let findings = leftovers(statement, table);
    Some(Outcome { steps: vec![step], findings })
}

fn is_concurrent(reindex: &node::ReindexStmt) -> bool {
    reindex
        .params
        .iter()
        .any(|item| matches!(&item.node, Some(NodeEnum::DefElem(option)) if option.defname == "concurrently"))
}

fn concurrently_option() -> node::Node {
    let option = node::DefElem {
        defname: "concurrently".into(),
        defaction: node::DefElemAction::DefelemUnspec.into(),
        ..node::DefElem::default()
    };
    node::Node { node: Some(NodeEnum::DefElem(Box::new(option))) }
}

/// The server cannot rebuild the index of an exclusion constraint beside the old one.
fn exclusion(
    statement: &Statement,
    table: Option<&Table>,
    relation: &TableName,
    whole_table: bool,
) -> Option<crate::finding::Finding> {
    let table = table?;
    let constraint = table.constraints.iter().find(|constraint| {
        constraint.kind == ConstraintKind::Exclusion && (whole_table || constraint.name == relation.name)
    })?;
    Some(blocking(
        statement,
        "DDL_NO_RULE",
        format!(
            "the exclusion constraint {} of {} cannot be reindexed CONCURRENTLY; REINDEX holds SHARE while it builds",
            constraint.name.as_str(),
            table.name.plain()
        ),
        "Name the other indexes one by one (REINDEX INDEX), and leave this one to a maintenance window.",
    ))
}

fn leftovers(statement: &Statement, table: Option<&Table>) -> Vec<crate::finding::Finding> {
    let Some(table) = table else { return Vec::new() };
    table
        .indexes
        .iter()
        .filter(|index| !index.valid && is_leftover_name(index.name.as_str()))
        .map(|index| {
            info(
                statement,
                "DDL_INVALID_LEFTOVER",
                format!(
                    "{} of {} is INVALID, left by an interrupted REINDEX; it is dropped first",
                    index.name.as_str(),
                    table.name.plain()
                ),
                "Nothing to do.",
            )
        })
        .collect()
}

/// Whether a name is one REINDEX CONCURRENTLY gives its interim indexes: `x_ccnew`, `x_ccold2`.
fn is_leftover_name(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.ends_with("_ccnew") || stem.ends_with("_ccold")
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn index_and_table_are_rebuilt_beside_the_old() {
        assert_eq!(
            on_live("reindex (verbose) index t_a; reindex table t"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE t: reindex (verbose) index CONCURRENTLY t_a",
                "concurrent, SHARE UPDATE EXCLUSIVE t: reindex table CONCURRENTLY t",
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for sql in [
            "reindex table pg_catalog.pg_class",
            "reindex schema public",
            "reindex system d",
            "reindex database d",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
        assert_eq!(on_live("reindex index nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn interim_indexes_are_told_by_name() {
        assert!(super::is_leftover_name("t_a_ccnew") && super::is_leftover_name("t_a_ccold12"));
        assert!(!super::is_leftover_name("t_a"));
    }
}
