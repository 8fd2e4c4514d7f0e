//! A partition's bound, as the operator wrote it, and the CHECK that says the same of the rows.

use crate::{
    ddl::parse::{
        self, NodeEnum, Token,
        node::{self, Token as Kind},
    },
    facts::{PartitionStrategy, Partitioned},
    pg::name::Ident,
};
use serde_json::Value;

/// What a bound says, each value in the operator's spelling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// FOR VALUES IN.
    In(Vec<String>),
    /// FOR VALUES FROM … TO …
    FromTo(Vec<String>, Vec<String>),
    /// FOR VALUES WITH (modulus, remainder).
    Hash,
    /// DEFAULT.
    Default,
}

/// Reads a bound that begins at token `first`: what it says, and the token after it.
pub(super) fn read(sql: &str, tokens: &[Token], first: usize) -> Option<(Bound, usize)> {
    let kind = |at: usize| tokens.get(at).map(|token| token.kind);
    if kind(first)? == Kind::Default {
        return Some((Bound::Default, first + 1));
    }
    if kind(first)? != Kind::For || kind(first + 1)? != Kind::Values {
        return None;
    }
    match kind(first + 2)? {
        Kind::InP => {
            let (values, after) = list(sql, tokens, first + 3)?;
            Some((Bound::In(values), after))
        }
        Kind::From => {
            let (from, after) = list(sql, tokens, first + 3)?;
            (kind(after)? == Kind::To).then_some(())?;
            let (to, after) = list(sql, tokens, after + 1)?;
            Some((Bound::FromTo(from, to), after))
        }
        Kind::With | Kind::WithLa => {
            let (_, after) = list(sql, tokens, first + 3)?;
            Some((Bound::Hash, after))
        }
        _ => None,
    }
}

/// The parts of `( a, b )` that begins at token `open`, and the token after it.
fn list(sql: &str, tokens: &[Token], open: usize) -> Option<(Vec<String>, usize)> {
    let (mut depth, mut parts, mut from) = (0, Vec::new(), open + 1);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Ascii40 => depth += 1,
            Kind::Ascii41 => depth -= 1,
            _ => {}
        }
        let ends = depth == 0;
        if at > open && (ends || depth == 1 && token.kind == Kind::Ascii44) {
            parts.push(sql.get(tokens.get(from)?.start..tokens.get(at - 1)?.end)?.to_owned());
            from = at + 1;
        }
        if ends {
            return (at > open).then_some((parts, at + 1));
        }
    }
    None
}

/// The CHECK expression for rows within a bound; `None` when it cannot be written, and why not is told by [`why_not`].
pub(super) fn expression(table: &Partitioned, bound: &Bound) -> Option<String> {
    let [column] = table.columns.as_slice() else { return None };
    match (table.strategy, bound) {
        (PartitionStrategy::List, Bound::In(values)) => {
            let is_null = |value: &&String| value.eq_ignore_ascii_case("null");
            let nullable = values.iter().any(|value| is_null(&value));
            let rest: Vec<&str> = values.iter().filter(|value| !is_null(value)).map(String::as_str).collect();
            let among = format!("{column} in ({})", rest.join(", "));
            Some(match (nullable, rest.is_empty()) {
                (true, true) => format!("{column} is null"),
                (true, false) => format!("{column} is null or {among}"),
                (false, _) => format!("{column} is not null and {among}"),
            })
        }
        (PartitionStrategy::Range, Bound::FromTo(from, to)) => {
            let ([from], [to]) = (from.as_slice(), to.as_slice()) else { return None };
            let mut parts = vec![format!("{column} is not null")];
            if !from.eq_ignore_ascii_case("minvalue") {
                parts.push(format!("{column} >= {from}"));
            }
            if !to.eq_ignore_ascii_case("maxvalue") {
                parts.push(format!("{column} < {to}"));
            }
            Some(parts.join(" and "))
        }
        _ => None,
    }
}

/// Whether the rows for which `checks` hold are all such that `wanted` holds: each part of it is a part of one of them.
pub(super) fn implied(wanted: &str, checks: &[node::Node], not_null: &[Ident]) -> bool {
    let Some(wanted) = condition(wanted) else { return false };
    let known: Vec<Value> = checks.iter().filter_map(shape).flat_map(conjuncts).collect();
    conjuncts(wanted).iter().all(|part| known.contains(part) || tests_not_null(part, not_null))
}

fn condition(sql: &str) -> Option<Value> {
    match parse::parse_one(&format!("select 1 where {sql}")).ok()? {
        NodeEnum::SelectStmt(select) => shape(select.where_clause.as_ref()?),
        _ => None,
    }
}

/// A tree without positions, casts of constants and different spellings of one thing.
fn shape(expression: &node::Node) -> Option<Value> {
    let mut value = serde_json::to_value(expression).ok()?;
    simplify(&mut value);
    Some(value)
}

fn simplify(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !parse::is_position(name));
            fields.values_mut().for_each(simplify);
            // `'a'::text` is how the server writes 'a'.
            if let Some(inner) =
                value.pointer("/node/TypeCast/arg").filter(|inner| inner.pointer("/node/AConst").is_some())
            {
                *value = inner.clone();
            }
            if let Some(any) = as_any(value) {
                *value = any;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// `k in (1, 2)` as the server writes it, `k = any (array[1, 2])`; `k in (1)` as `k = 1`.
fn as_any(value: &Value) -> Option<Value> {
    let operation = value.pointer("/node/AExpr")?;
    let kind = operation.get("kind")?.as_i64()?;
    let left = operation.get("lexpr")?.clone();
    let right = operation.get("rexpr")?;
    let is = |wanted: node::AExprKind| kind == i64::from(wanted as i32);
    let items = if is(node::AExprKind::AexprIn) {
        right.pointer("/node/List/items")?.as_array()?.clone()
    } else if is(node::AExprKind::AexprOpAny) {
        let array = right.pointer("/node/TypeCast/arg").unwrap_or(right);
        array.pointer("/node/AArrayExpr/elements")?.as_array()?.clone()
    } else if is(node::AExprKind::AexprOp) && operation.pointer("/name/0/node/String/sval")?.as_str()? == "="
    {
        vec![right.clone()]
    } else {
        return None;
    };
    Some(serde_json::json!({ "any of": items, "is": left }))
}

fn conjuncts(value: Value) -> Vec<Value> {
    let and = value.pointer("/node/BoolExpr").filter(|expression| {
        expression.get("boolop").and_then(Value::as_i64)
            == Some(i64::from(node::BoolExprType::AndExpr as i32))
    });
    match and.and_then(|expression| expression.get("args")).and_then(Value::as_array) {
        Some(args) => args.iter().cloned().flat_map(conjuncts).collect(),
        None => vec![value],
    }
}

/// `k is not null` of a column that is declared so.
fn tests_not_null(part: &Value, not_null: &[Ident]) -> bool {
    let is_test = part.pointer("/node/NullTest/nulltesttype").and_then(Value::as_i64)
        == Some(i64::from(node::NullTestType::IsNotNull as i32));
    let column =
        part.pointer("/node/NullTest/arg/node/ColumnRef/fields/0/node/String/sval").and_then(Value::as_str);
    is_test && column.is_some_and(|column| not_null.iter().any(|name| name.as_str() == column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Option<Bound> {
        read(text, &parse::tokens(text).unwrap(), 0).map(|(bound, _)| bound)
    }

    fn partitioned(strategy: PartitionStrategy, columns: &[&str]) -> Partitioned {
        Partitioned {
            name: crate::pg::name::TableName::new("public", "p"),
            strategy,
            columns: columns.iter().map(|name| Ident::new(*name)).collect(),
            default_partition: None,
            constraint: None,
        }
    }

    #[test]
    fn bounds_keep_their_spelling() {
        let texts = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert_eq!(bound("for values in ('a', null)"), Some(Bound::In(texts(&["'a'", "null"]))));
        assert_eq!(
            bound("FOR VALUES FROM (date '2024-01-01', (1 + 2)) TO (maxvalue, maxvalue)"),
            Some(Bound::FromTo(texts(&["date '2024-01-01'", "(1 + 2)"]), texts(&["maxvalue", "maxvalue"])))
        );
        assert_eq!(bound("for values with (modulus 4, remainder 1)"), Some(Bound::Hash));
        assert_eq!(bound("default"), Some(Bound::Default));
        assert_eq!(bound("(a default 5) for values in (1)"), None);
    }

    #[test]
    fn the_check_says_what_the_bound_says() {
        let list = partitioned(PartitionStrategy::List, &["k"]);
        let range = partitioned(PartitionStrategy::Range, &["k"]);
        let of = |table: &Partitioned, text: &str| expression(table, &bound(text).unwrap());
        assert_eq!(of(&list, "for values in (1, 2)").unwrap(), "\"k\" is not null and \"k\" in (1, 2)");
        assert_eq!(of(&list, "for values in (null)").unwrap(), "\"k\" is null");
        assert_eq!(of(&list, "for values in ('z', NULL)").unwrap(), "\"k\" is null or \"k\" in ('z')");
        assert_eq!(
            of(&range, "for values from (minvalue) to (10)").unwrap(),
            "\"k\" is not null and \"k\" < 10"
        );
        assert_eq!(
            of(&partitioned(PartitionStrategy::Range, &["k", "l"]), "for values from (1, 2) to (3, 4)"),
            None
        );
        assert_eq!(
            of(&partitioned(PartitionStrategy::Hash, &["k"]), "for values with (modulus 2, remainder 0)"),
            None
        );
    }

    #[test]
    fn what_the_server_writes_of_a_check_is_recognized() {
        let check = |sql: &str| {
            crate::ddl::scene::constraint_node(&format!("check ({sql})"))
                .and_then(|constraint| constraint.raw_expr)
                .map(|expression| *expression)
                .unwrap()
        };
        let wanted = "\"k\" is not null and \"k\" >= '2024-01-01' and \"k\" < '2024-02-01'";
        let written =
            check("((k IS NOT NULL) AND (k >= '2024-01-01'::date) AND (k < '2024-02-01'::date) AND (a > 1))");
        assert!(implied(wanted, &[written], &[]));
        let halves = [check("k >= '2024-01-01'"), check("k < '2024-02-01'")];
        assert!(implied(wanted, &halves, &[Ident::new("k")]));
        assert!(!implied(wanted, &halves, &[]));
        assert!(!implied(
            wanted,
            &[check("k >= '2024-01-02'"), check("k < '2024-02-01'")],
            &[Ident::new("k")]
        ));
        assert!(implied("k in (1, 2)", &[check("(k = ANY (ARRAY[1, 2]))")], &[]));
        assert!(implied("k in ('a')", &[check("(k = 'a'::text)")], &[]));
    }
}
