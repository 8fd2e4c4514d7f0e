//! REINDEX INDEX and TABLE: CONCURRENTLY; of a partitioned one, partition by partition.

use super::{
    Outcome, Rule, as_written, blocking, concurrently,
    expand::{in_turn, instead_of},
    info,
    maintenance::has_option,
    unknown_relation,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::{Undo, Verify},
    },
    facts::{ConstraintKind, Table, TableKind},
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "reindex";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Indexes are rebuilt CONCURRENTLY; those of a partitioned table leaf by leaf, since the server's own form makes writers queue.",
    manual: "sql-reindex.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
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
    let parts = match table {
        Some(table) if table.kind == TableKind::Partitioned => {
            below(scene, table, (!whole_table).then_some(&relation))
        }
        Some(_) => Vec::new(),
        None => scene.parts_made(&relation),
    };
    if !parts.is_empty() {
        return part_by_part(statement, scene, reindex, &parts);
    }
    let was_concurrent = is_concurrent(reindex);
    let sql = concurrent(statement, reindex, None)?;
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

/// The leaves below a partitioned table: their tables, and what of each is rebuilt, itself or its part of the index.
fn below(scene: &Scene, table: &Table, index: Option<&TableName>) -> Vec<(TableName, TableName)> {
    let mut parts = Vec::new();
    match index {
        None => parts.extend(
            scene
                .all_partitions(&table.name)
                .into_iter()
                .filter(|part| part.kind == TableKind::Plain)
                .map(|part| (part.name.clone(), part.name.clone())),
        ),
        Some(index) => parts_of_index(scene, table, &index.name, &mut parts),
    }
    parts
}

/// Each partition's table or index alone. Measured: named as a whole, even CONCURRENTLY first takes SHARE on the table or index
/// of every partition at once, and writers queue behind it.
fn part_by_part(
    statement: &Statement,
    scene: &Scene,
    reindex: &node::ReindexStmt,
    parts: &[(TableName, TableName)],
) -> Option<Outcome> {
    let sqls: Option<Vec<String>> =
        parts.iter().map(|(_, named)| concurrent(statement, reindex, Some(named))).collect();
    let outcome = in_turn(statement, scene, RECIPE, &sqls?);
    // Without CONCURRENTLY each is built under SHARE, one after the other.
    let lock = |(table, _): &(TableName, TableName)| LockTaken {
        relation: table.clone(),
        mode: LockMode::Share,
        role: LockRole::Partition,
    };
    let locks: Vec<LockTaken> = parts.iter().map(lock).collect();
    let was = if is_concurrent(reindex) { Cost::brief(locks) } else { Cost::building(locks) };
    instead_of(outcome, was)
}

/// The tables below a partitioned one, with their parts of its index.
fn parts_of_index(scene: &Scene, table: &Table, index: &Ident, parts: &mut Vec<(TableName, TableName)>) {
    for part in scene.partitions(&table.name) {
        let Some(own) = part.indexes.iter().find(|own| own.parent.as_ref() == Some(index)) else { continue };
        match part.kind {
            TableKind::Partitioned => parts_of_index(scene, part, &own.name, parts),
            _ => {
                let named = TableName { schema: part.name.schema.clone(), name: own.name.clone() };
                parts.push((part.name.clone(), named));
            }
        }
    }
}

/// The statement with CONCURRENTLY, of another table or index when one is given.
fn concurrent(
    statement: &Statement,
    reindex: &node::ReindexStmt,
    instead: Option<&TableName>,
) -> Option<String> {
    use node::Token as Kind;
    let mut wanted = reindex.clone();
    let mut edits = Vec::new();
    let tokens = parse::tokens(&statement.sql).ok()?;
    let is_table = reindex.kind() == node::ReindexObjectType::ReindexObjectTable;
    let object = edit::find(&tokens, if is_table { Kind::Table } else { Kind::Index })?;
    if !is_concurrent(reindex) {
        wanted.params.push(concurrently_option());
        edits.push(Edit::insert(tokens.get(object)?.end, " CONCURRENTLY"));
    }
    if let Some(name) = instead {
        let next = tokens.get(object + 1)?;
        let first = if next.kind == Kind::Concurrently { tokens.get(object + 2)? } else { next };
        edits.push(Edit { start: first.start, end: tokens.last()?.end, text: name.to_string() });
        let range = wanted.relation.as_mut()?;
        (range.schemaname, range.relname) = (name.schema.as_str().to_owned(), name.name.as_str().to_owned());
        range.catalogname.clear();
    }
    edit::proved(&statement.sql, edits, &NodeEnum::ReindexStmt(wanted))
}

fn is_concurrent(reindex: &node::ReindexStmt) -> bool {
    has_option(&reindex.params, "concurrently")
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
    use crate::{
        ddl::tests::{index, live, on_live, told},
        pg::name::Ident,
    };

    #[test]
    fn a_partitioned_index_that_the_plan_made_is_rebuilt_leaf_by_leaf_too() {
        let made = on_live("create index p_n on p (b)");
        let both = on_live("create index p_n on p (b); alter index p_n rename to p_m; reindex index p_m");
        let again: Vec<&String> = both.iter().filter(|line| line.contains("reindex")).collect();
        let leaves = made.iter().filter(|line| line.starts_with("concurrent")).count();
        assert_eq!(again.len(), leaves, "{both:#?}");
        assert!(leaves > 1 && !again.iter().any(|line| line.ends_with("p_m")), "{both:#?}");
    }

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
    fn what_is_turned_off_is_not_concurrent() {
        assert_eq!(
            on_live("reindex (concurrently false) index t_a"),
            ["concurrent, SHARE UPDATE EXCLUSIVE t: reindex (concurrently false) index CONCURRENTLY t_a"]
        );
    }

    #[test]
    fn a_partitioned_one_is_rebuilt_part_by_part() {
        let mut facts = live();
        let mut attach = |table: &str, name: &str, parent: &str| {
            let table = facts.tables.iter_mut().find(|one| one.name.name.as_str() == table).unwrap();
            let mut index =
                table.indexes.first().cloned().unwrap_or_else(|| index(name, "p1", false, true, None));
            (index.name, index.parent, index.constraint) = (Ident::new(name), Some(Ident::new(parent)), None);
            table.indexes.push(index);
        };
        attach("p1", "p1_a", "p_a");
        attach("sub", "sub_a", "p_a");
        attach("sub1", "sub1_a", "sub_a");
        attach("sub1", "sub1_other", "sub_other");
        assert_eq!(
            told("reindex (verbose) index concurrently p_a", Some(&facts)),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE p1: reindex (verbose) index concurrently \"public\".\"p1_a\"",
                "concurrent, SHARE UPDATE EXCLUSIVE sub1: reindex (verbose) index concurrently \"public\".\"sub1_a\"",
            ]
        );
        assert_eq!(
            told("reindex table p", Some(&facts)),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE p1: reindex table CONCURRENTLY \"public\".\"p1\"",
                "concurrent, SHARE UPDATE EXCLUSIVE sub1: reindex table CONCURRENTLY \"public\".\"sub1\"",
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
