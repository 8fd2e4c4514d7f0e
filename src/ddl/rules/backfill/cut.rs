//! Where the range of a batch goes in the operator's text.

use super::Rows;
use crate::ddl::{
    parse::{self, NodeEnum, node},
    volatility,
};

/// The statement's text before and after where the range of a batch is put; proved by the tree.
pub(super) fn cut(rows: &Rows) -> Option<(String, String)> {
    use node::Token as Kind;
    let sql = &rows.statement.sql;
    let tokens = parse::tokens(sql).ok()?;
    let mut depth = 0_i32;
    let mut top = Vec::new();
    for token in &tokens {
        match token.kind {
            Kind::Ascii40 | Kind::Ascii91 => depth += 1,
            Kind::Ascii41 | Kind::Ascii93 => depth -= 1,
            _ if depth == 0 => top.push(*token),
            _ => {}
        }
    }
    // ON CONFLICT alone may follow; a join's ON is not allowed here.
    let conflict = top.windows(2).find(|pair| pair[0].kind == Kind::On && pair[1].kind == Kind::Conflict);
    let end = conflict.map_or(sql.len(), |pair| pair[0].start);
    let tail = if end < sql.len() { format!(" {}", &sql[end..]) } else { String::new() };
    let condition = top.iter().find(|token| token.kind == Kind::Where && token.start < end);
    let head = match (condition, rows.condition) {
        (Some(token), Some(_)) => format!("{} ({}) and ", &sql[..token.end], sql[token.end..end].trim()),
        (None, None) => format!("{} where ", sql[..end].trim_end()),
        _ => return None,
    };
    means_the_same(rows, &head, &tail).then_some((head, tail))
}

/// Whether the statement with `true` as its range is the operator's and that.
fn means_the_same(rows: &Rows, head: &str, tail: &str) -> bool {
    let Ok(with_range) = parse::parse_one(&format!("{head}true{tail}")) else { return false };
    let wanted = match rows.condition {
        Some(condition) => {
            let Some(truth) = volatility::expression("true") else { return false };
            let mut args = match &condition.node {
                Some(NodeEnum::BoolExpr(both)) if both.boolop() == node::BoolExprType::AndExpr => {
                    both.args.clone()
                }
                _ => vec![condition.clone()],
            };
            args.push(truth);
            let both = node::BoolExpr {
                boolop: node::BoolExprType::AndExpr.into(),
                args,
                ..node::BoolExpr::default()
            };
            Some(node::Node { node: Some(NodeEnum::BoolExpr(Box::new(both))) })
        }
        None => volatility::expression("true"),
    };
    let Some(wanted) = with_condition(rows.statement.tree.clone(), wanted.map(Box::new)) else {
        return false;
    };
    parse::same_tree(&with_range, &wanted)
}

fn with_condition(mut tree: NodeEnum, condition: Option<Box<node::Node>>) -> Option<NodeEnum> {
    match &mut tree {
        NodeEnum::UpdateStmt(update) => update.where_clause = condition,
        NodeEnum::DeleteStmt(delete) => delete.where_clause = condition,
        NodeEnum::InsertStmt(insert) => match insert.select_stmt.as_mut()?.node.as_mut()? {
            NodeEnum::SelectStmt(select) => select.where_clause = condition,
            _ => return None,
        },
        _ => return None,
    }
    Some(tree)
}
