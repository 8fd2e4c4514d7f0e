//! ADD UNIQUE and ADD PRIMARY KEY: the index CONCURRENTLY, NOT NULL proved, then the constraint takes the index.

use super::{Answer, Pieces, Whole, column_list};
use crate::{
    ddl::parse::{
        self, NodeEnum,
        node::{self, ConstrType},
    },
    pg::name::Ident,
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let Some(constraint) = whole.added(at).filter(|constraint| is_key(constraint)) else {
        return Answer::AsIs;
    };
    if !constraint.indexname.is_empty() {
        return using_index(whole, at, constraint);
    }
    // A partitioned table's key is made part by part; PERIOD keys rest on an exclusion index.
    if whole.is_partitioned() || constraint.without_overlaps {
        return Answer::AsIs;
    }
    if constraint.contype() == ConstrType::ConstrPrimary
        && let Some(name) = other_primary_key(whole, at)
    {
        return whole.refuse(
            "DDL_FAILS",
            format!("{} has a primary key already, {name}; the server refuses a second one", whole.table.plain()),
            "Drop it in the statement right before, or in the same ALTER TABLE: then the two are swapped without a gap.",
        );
    }
    if !whole.is_alone() {
        return whole.later(at);
    }
    let name = whole.names.of(constraint, None);
    Answer::Pieces(with_index(whole, constraint, &name, &name))
}

pub(super) fn is_key(constraint: &node::Constraint) -> bool {
    matches!(constraint.contype(), ConstrType::ConstrUnique | ConstrType::ConstrPrimary)
}

/// The index under a name, and the constraint that takes it.
pub(super) fn with_index(
    whole: &Whole,
    constraint: &node::Constraint,
    name: &Ident,
    index: &Ident,
) -> Pieces {
    let columns = parse::strings(&constraint.keys);
    let mut pieces = Pieces { before: vec![create_index(whole, constraint, index)], ..Pieces::default() };
    let is_primary = constraint.contype() == ConstrType::ConstrPrimary;
    if is_primary {
        pieces.before.extend(made_not_null(whole, &columns));
    }
    let kind = if is_primary { "primary key" } else { "unique" };
    let attributes = attributes(constraint);
    pieces.here = vec![format!("add constraint {name} {kind} using index {index}{attributes}")];
    pieces
}

fn create_index(whole: &Whole, constraint: &node::Constraint, index: &Ident) -> String {
    let mut sql = format!(
        "create unique index concurrently {index} on {} ({})",
        whole.table,
        column_list(&parse::strings(&constraint.keys))
    );
    let including = parse::strings(&constraint.including);
    if !including.is_empty() {
        sql.push_str(&format!(" include ({})", column_list(&including)));
    }
    if constraint.nulls_not_distinct {
        sql.push_str(" nulls not distinct");
    }
    let options: Vec<String> = constraint.options.iter().filter_map(option).collect();
    if !options.is_empty() {
        sql.push_str(&format!(" with ({})", options.join(", ")));
    }
    if !constraint.indexspace.is_empty() {
        sql.push_str(&format!(" tablespace {}", Ident::new(&constraint.indexspace)));
    }
    sql
}

fn option(item: &node::Node) -> Option<String> {
    let Some(NodeEnum::DefElem(option)) = &item.node else { return None };
    let value = match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
        None => return Some(option.defname.clone()),
        Some(NodeEnum::Integer(number)) => number.ival.to_string(),
        Some(NodeEnum::Float(number)) => number.fval.clone(),
        Some(NodeEnum::String(text)) => text.sval.clone(),
        Some(NodeEnum::Boolean(truth)) => truth.boolval.to_string(),
        Some(NodeEnum::TypeName(name)) => parse::strings(&name.names).pop()?,
        Some(_) => return None,
    };
    Some(format!("{} = {value}", option.defname))
}

pub(super) fn attributes(constraint: &node::Constraint) -> &'static str {
    match (constraint.deferrable, constraint.initdeferred) {
        (_, true) => " deferrable initially deferred",
        (true, false) => " deferrable",
        _ => "",
    }
}

/// SET NOT NULL for the columns that are not; each is made online by its own recipe.
fn made_not_null(whole: &Whole, columns: &[String]) -> Vec<String> {
    let nullable = columns.iter().filter(|column| !whole.scene.is_not_null(&whole.table, column));
    nullable
        .map(|column| {
            whole.statement_of(&format!("alter column {} set not null", Ident::new(column.as_str())))
        })
        .collect()
}

/// PRIMARY KEY USING INDEX reads every row under ACCESS EXCLUSIVE while one of its columns may be NULL.
fn using_index(whole: &Whole, at: usize, constraint: &node::Constraint) -> Answer {
    if constraint.contype() != ConstrType::ConstrPrimary {
        return Answer::AsIs;
    }
    let Some(columns) = whole.scene.index_columns(&whole.table, &constraint.indexname) else {
        return Answer::AsIs;
    };
    let before = made_not_null(whole, &columns);
    if before.is_empty() {
        return Answer::AsIs;
    }
    Answer::Pieces(Pieces { before, here: vec![whole.text(at).to_owned()], ..Pieces::default() })
}

/// A primary key that stays.
fn other_primary_key(whole: &Whole, at: usize) -> Option<String> {
    let dropped = |name: &str| {
        whole
            .siblings(at)
            .any(|(_, tree)| tree.subtype() == super::Type::AtDropConstraint && tree.name == name)
    };
    let keys = whole.scene.constraints(&whole.table).into_iter();
    keys.filter(|(_, now)| now.kind == crate::facts::ConstraintKind::PrimaryKey)
        .map(|(name, _)| name)
        .find(|name| !dropped(name))
}
