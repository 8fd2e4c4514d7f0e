//! Where the rows of a statement come from, when it means the same in batches.

use crate::ddl::parse::{self, NodeEnum, node};

/// Functions that make one row of many, or look at others.
const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "bool_and",
    "bool_or",
    "every",
    "bit_and",
    "bit_or",
    "xmlagg",
    "stddev",
    "variance",
    "any_value",
    "row_number",
    "rank",
    "dense_rank",
    "lag",
    "lead",
];

/// Functions that make many rows of one.
const SET_RETURNING: &[&str] = &[
    "generate_series",
    "unnest",
    "regexp_split_to_table",
    "jsonb_array_elements",
    "json_array_elements",
    "jsonb_array_elements_text",
    "json_array_elements_text",
];

/// Whether a WITH, if there is one, has no statement that writes.
pub(super) fn only_reads(with: Option<&node::WithClause>) -> bool {
    let queries = with.into_iter().flat_map(|with| &with.ctes);
    queries.filter_map(|query| query.node.as_ref()).all(|query| parse::written(query).is_empty())
}

/// Why a statement that writes rows would not mean the same in batches; `None` for other statements.
pub(in crate::ddl::rules) fn hindrance(tree: &NodeEnum) -> Option<&'static str> {
    let (returns, with, walks) = match tree {
        NodeEnum::InsertStmt(insert) => {
            let source = insert.select_stmt.as_ref().and_then(|source| source.node.as_ref());
            let walks =
                matches!(source, Some(NodeEnum::SelectStmt(select)) if plain_source(select).is_some());
            (insert.returning_clause.is_some(), insert.with_clause.as_ref(), walks)
        }
        NodeEnum::UpdateStmt(update) => {
            (update.returning_clause.is_some(), update.with_clause.as_ref(), true)
        }
        NodeEnum::DeleteStmt(delete) => {
            (delete.returning_clause.is_some(), delete.with_clause.as_ref(), true)
        }
        NodeEnum::MergeStmt(_) => return Some("MERGE is not cut here"),
        _ => return None,
    };
    Some(if returns {
        "it returns rows"
    } else if !only_reads(with) {
        "its WITH writes"
    } else if !walks {
        "its rows come from a join, WITH, an aggregate, DISTINCT, LIMIT or a set operation, and part of what is read would not give part of them"
    } else if reads_what_it_writes(tree) {
        "it reads the table that it writes, and a batch would see what those before it did"
    } else {
        "there is no place in it where a range of keys would go"
    })
}

fn reads_what_it_writes(tree: &NodeEnum) -> bool {
    let named = parse::relations(tree);
    parse::written(tree).iter().any(|written| named.iter().filter(|name| *name == written).count() > 1)
}

/// `insert … select 1, 'a' where not exists (…)`: a query without FROM gives one row or none.
pub(super) fn is_one_row_of(insert: &node::InsertStmt) -> bool {
    let source = insert.select_stmt.as_ref().and_then(|source| source.node.as_ref());
    matches!(source, Some(NodeEnum::SelectStmt(select))
        if select.from_clause.is_empty()
            && select.values_lists.is_empty()
            && select.op() == node::SetOperation::SetopNone
            && !select.target_list.iter().filter_map(|item| item.node.as_ref()).any(|target| calls(target, SET_RETURNING)))
}

/// The one table of a query that gives a row for each of its rows.
pub(super) fn plain_source(select: &node::SelectStmt) -> Option<&node::RangeVar> {
    let is_plain = select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.window_clause.is_empty()
        && select.values_lists.is_empty()
        && select.sort_clause.is_empty()
        && select.limit_offset.is_none()
        && select.limit_count.is_none()
        && select.locking_clause.is_empty()
        && select.with_clause.is_none()
        && select.op() == node::SetOperation::SetopNone;
    let [only] = select.from_clause.as_slice() else { return None };
    let Some(NodeEnum::RangeVar(range)) = &only.node else { return None };
    let mut targets = select.target_list.iter().filter_map(|target| target.node.as_ref());
    let is_row_by_row = !targets.any(|target| calls(target, AGGREGATES) || calls(target, SET_RETURNING));
    (is_plain && is_row_by_row).then_some(range)
}

fn calls(target: &NodeEnum, functions: &[&str]) -> bool {
    parse::function_names(target).any(|name| functions.contains(&name.as_str()))
}
