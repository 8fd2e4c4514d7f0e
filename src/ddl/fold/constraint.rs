//! DROP CONSTRAINT c … ADD CONSTRAINT c of one table, in two statements: one change, unless something between needs the gap.

use crate::{
    ddl::{
        parse::{self, NodeEnum, node::AlterTableType},
        parts,
        recipe::{added, names},
        source::Statement,
    },
    finding::Place,
    pg::name::TableName,
};

pub(super) enum Pair {
    None,
    /// The ADD, counted from after the DROP, and the two as one statement.
    Swap {
        add: usize,
        both: Box<Statement>,
    },
    Apart {
        add_place: Place,
        between: Place,
    },
}

pub(super) fn pair(drop: &Statement, after: &[Option<Statement>]) -> Pair {
    found(drop, after).unwrap_or(Pair::None)
}

fn found(drop: &Statement, after: &[Option<Statement>]) -> Option<Pair> {
    let NodeEnum::AlterTableStmt(tree) = &drop.tree else { return None };
    let [dropped] = tree.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &dropped.node else { return None };
    if command.subtype() != AlterTableType::AtDropConstraint {
        return None;
    }
    let range = tree.relation.as_ref()?;
    let table = (range.schemaname.clone(), range.relname.clone());
    let add = after.iter().position(|statement| {
        statement.as_ref().is_some_and(|statement| {
            adds(statement, &table, &command.name) && statement.search_path == drop.search_path
        })
    })?;
    let second = after[add].as_ref()?;
    let needs_gap = |statement: &&Statement| !may_stand_between(statement, &table);
    if let Some(between) = after[..add].iter().flatten().find(needs_gap) {
        return Some(Pair::Apart { add_place: second.place.clone(), between: between.place.clone() });
    }
    let (first, last) = (parts::alter(drop)?, parts::alter(second)?);
    let texts: Vec<&str> = first.commands.iter().chain(&last.commands).map(|(text, _)| *text).collect();
    let sql = format!("{} {}", first.head, texts.join(", "));
    let tree = parse::parse_one(&sql).ok()?;
    Some(Pair::Swap { add, both: Box::new(Statement { sql, tree, ..second.clone() }) })
}

/// Whether a statement adds a constraint of the name, as one of its parts.
fn adds(statement: &Statement, (schema, name): &(String, String), constraint: &str) -> bool {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return false };
    let Some(range) = &alter.relation else { return false };
    range.relname == *name
        && range.schemaname == *schema
        && alter.cmds.iter().any(|command| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => added(command).is_some_and(|added| {
                names::plain(added, &TableName::new(schema.as_str(), name.as_str())) == constraint
            }),
            _ => false,
        })
}

/// Whether a statement means the same while the constraint is still there.
fn may_stand_between(statement: &Statement, table: &(String, String)) -> bool {
    match &statement.tree {
        NodeEnum::TransactionStmt(_) | NodeEnum::VariableSetStmt(_) | NodeEnum::CommentStmt(_) => true,
        NodeEnum::IndexStmt(_) => true,
        NodeEnum::DropStmt(_) | NodeEnum::DoStmt(_) | NodeEnum::CallStmt(_) | NodeEnum::RenameStmt(_) => {
            false
        }
        NodeEnum::AlterTableStmt(_) => !super::names(statement, table),
        _ => false,
    }
}
