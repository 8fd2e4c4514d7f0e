//! A piece of SQL over one table's columns.

use crate::ddl::parse::{self, NodeEnum, SyntaxError, node};
use crate::pg::name::Ident;

/// One SQL expression, and the columns it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    sql: String,
    uses: Vec<Ident>,
    column: Option<Ident>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Why, with the place where it shows.
    pub what: String,
}

/// What stands around the text when it is parsed: the line breaks keep a comment in it from reaching further.
pub(super) const BEFORE: &str = "select (\n";
pub(super) const AFTER: &str = "\n)";

impl Expression {
    /// Reads a text as one expression.
    ///
    /// # Errors
    /// When it is empty, not SQL, more than an expression, or has parameters.
    pub fn read(text: &str) -> Result<Expression, Unreadable> {
        let refuse = |what: String| Err(Unreadable { what });
        if text.trim().is_empty() {
            return refuse("it is empty".into());
        }
        let sql = format!("{BEFORE}{text}{AFTER}");
        let tree =
            parse::parse_one(&sql).map_err(|error| Unreadable { what: shown(text, &error, BEFORE.len()) })?;
        let Some(value) = only_value(&tree) else {
            return refuse("it is more than one expression".into());
        };
        if parse::has_star(&tree) {
            return refuse("it names all columns at once (`*`): name each that it needs".into());
        }
        if let Some(what) = never_the_same(&sql) {
            return refuse(what);
        }
        let uses = parse::columns(&tree).into_iter().map(Ident::new).collect();
        let column = match value {
            NodeEnum::ColumnRef(reference) => match parse::strings(&reference.fields).as_slice() {
                [name] => Some(Ident::new(name)),
                _ => None,
            },
            _ => None,
        };
        Ok(Expression { sql: text.to_owned(), uses, column })
    }

    /// A column as it is.
    pub fn column(name: &Ident) -> Expression {
        Expression { sql: name.to_string(), uses: vec![name.clone()], column: Some(name.clone()) }
    }

    /// The columns it names, once each.
    pub fn uses(&self) -> &[Ident] {
        &self.uses
    }

    /// The column that it is, when it is nothing more.
    pub fn as_column(&self) -> Option<&Ident> {
        self.column.as_ref()
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.sql
    }

    /// In parentheses, ready to stand in a statement.
    pub fn enclosed(&self) -> String {
        format!("(\n{}\n)", self.sql)
    }
}

/// The one value of `select (…)` that is nothing more than that.
fn only_value(tree: &NodeEnum) -> Option<&NodeEnum> {
    let NodeEnum::SelectStmt(select) = tree else { return None };
    let [target] = select.target_list.as_slice() else { return None };
    let alone = node::SelectStmt { target_list: Vec::new(), ..(**select).clone() };
    let plain =
        node::SelectStmt { limit_option: select.limit_option, op: select.op, ..node::SelectStmt::default() };
    let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
    let is_bare = target.name.is_empty() && target.indirection.is_empty();
    let value = target.val.as_ref().and_then(|value| value.node.as_ref())?;
    // `a, b` in parentheses is a row.
    let is_row = matches!(value, NodeEnum::RowExpr(_));
    (alone == plain && is_bare && !is_row).then_some(value)
}

/// What of a text cannot be evaluated again with the same result.
pub(super) fn never_the_same(sql: &str) -> Option<String> {
    if let Some(word) = moment(sql) {
        return Some(format!(
            "'{word}' is the moment at which it is read, and would differ when it is applied again"
        ));
    }
    let is_parameter = |token: &parse::Token| token.kind == node::Token::Param;
    parse::tokens(sql)
        .is_ok_and(|tokens| tokens.iter().any(is_parameter))
        .then(|| "it has a parameter (`$1`), and nothing would fill it".into())
}

/// A string that a date or time type reads as the moment of reading.
fn moment(sql: &str) -> Option<&'static str> {
    const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    let lower = sql.to_lowercase();
    if !["date", "time"].iter().any(|word| lower.contains(word)) {
        return None;
    }
    let tokens = parse::tokens(sql).unwrap_or_default();
    let strings = tokens.iter().filter(|token| token.kind == node::Token::Sconst);
    let said: Vec<&str> = strings
        .filter_map(|token| lower.get(token.start..token.end))
        .map(|text| text.trim_matches('\'').trim())
        .collect();
    MOMENTS.into_iter().find(|moment| said.contains(moment))
}

/// The message, and the line it is in with a caret below.
pub(super) fn shown(text: &str, error: &SyntaxError, before: usize) -> String {
    let at = error.offset.map(|offset| offset.saturating_sub(before).min(text.len()));
    let Some(at) = at.filter(|at| text.is_char_boundary(*at)) else { return error.message.clone() };
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let column = text[start..at].chars().count();
    format!("{}\n    {line}\n    {}^", error.message, " ".repeat(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_an_expression_are_found_wherever_they_stand() {
        let read = Expression::read("coalesce(a, t.b) || case when \"C d\" > 1 then array[e] end::text -- f")
            .unwrap();
        let mut uses: Vec<_> = read.uses().iter().map(Ident::as_str).collect();
        uses.sort_unstable();
        assert_eq!(uses, ["C d", "a", "b", "e"]);
        assert_eq!(read.as_column(), None);
        assert_eq!(Expression::read(" \"C d\" ").unwrap().as_column(), Some(&Ident::new("C d")));
        assert_eq!(Expression::read("A").unwrap().as_column(), Some(&Ident::new("a")));
    }

    #[test]
    fn what_is_more_than_an_expression_is_refused() {
        let cases = [
            ("  ", "it is empty"),
            ("a, b", "it is more than one expression"),
            ("a), (b", "it is more than one expression"),
            ("a) from pg_class where (true", "it is more than one expression"),
            ("a) as x, (b", "it is more than one expression"),
            ("a); select (1", "not exactly one statement"),
            ("t.*", "it names all columns at once (`*`): name each that it needs"),
            (
                "'Now'::timestamptz",
                "'now' is the moment at which it is read, and would differ when it is applied again",
            ),
            ("a || $1", "it has a parameter (`$1`), and nothing would fill it"),
        ];
        for (text, why) in cases {
            assert_eq!(Expression::read(text).unwrap_err().what, why, "{text}");
        }
    }

    #[test]
    fn a_syntax_error_is_pointed_at() {
        let what = Expression::read("lower(a) +\n  nullif(b c)").unwrap_err().what;
        assert!(what.ends_with("\n      nullif(b c)\n               ^"), "{what}");
    }
}
