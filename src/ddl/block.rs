//! What is inside a DO block: the statements that stand there as they are, and what only running it would tell.

use super::parse::{self, NodeEnum};
use serde_json::Value;

/// A DO block, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Its statements, in order.
    pub statements: Vec<Inside>,
    /// It has variables of its own, so its statements mean nothing outside.
    pub has_variables: bool,
    /// The first thing in it that cannot be told without running it.
    pub opaque: Option<String>,
    conditions: usize,
    loops: usize,
}

/// A statement in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Its text.
    pub sql: String,
    /// What decides whether it runs; empty when it always does.
    pub under: Vec<Under>,
    /// It stands in a loop, or is what a loop goes over.
    pub in_loop: bool,
}

impl Inside {
    /// It may or may not run: it is under IF or CASE, or in a block with EXCEPTION.
    pub fn conditional(&self) -> bool {
        !self.under.is_empty()
    }
}

/// What decides whether a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Under {
    /// An IF, by its number in the block: the condition, and what it must be.
    Condition { nth: usize, text: String, holds: bool },
    /// It is alone in a block whose EXCEPTION lets a thing of the same name stand, and does nothing else.
    UnlessDuplicate,
    /// Something that only running it tells.
    Dark,
}

/// Why a loop cannot be told.
pub(super) const LOOP: &str = "a loop: how often it runs, and over what, only running it tells";

/// Functions without an effect, as blocks use them in conditions and messages.
const HARMLESS: &[&str] = &[
    "array_agg",
    "array_length",
    "cardinality",
    "coalesce",
    "col_description",
    "concat",
    "count",
    "current_database",
    "current_schema",
    "current_setting",
    "exists",
    "format",
    "format_type",
    "greatest",
    "has_column_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "least",
    "length",
    "lower",
    "max",
    "min",
    "now",
    "obj_description",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_serial_sequence",
    "pg_get_viewdef",
    "position",
    "quote_ident",
    "quote_literal",
    "regexp_replace",
    "replace",
    "split_part",
    "string_agg",
    "substring",
    "sum",
    "to_regclass",
    "to_regnamespace",
    "to_regproc",
    "to_regrole",
    "to_regtype",
    "trim",
    "unnest",
    "upper",
    "version",
];

/// Whether a function has no effect.
pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
}

/// Reads a DO statement; `None` when its language is not plpgsql, or its text is not of it.
pub(super) fn read(sql: &str) -> Option<Block> {
    let tree = parse::plpgsql(sql)?;
    let mut block = Block::default();
    for function in tree.as_array()? {
        let function = function.get("PLpgSQL_function")?;
        for datum in function.get("datums").and_then(Value::as_array).into_iter().flatten() {
            block.variable(datum);
        }
        block.statement(function.get("action")?, &[]);
    }
    Some(block)
}

impl Block {
    fn variable(&mut self, datum: &Value) {
        let Some((_, fields)) = datum.as_object().and_then(|fields| fields.iter().next()) else { return };
        let name = fields.get("refname").and_then(Value::as_str).unwrap_or_default();
        // What every block has.
        self.has_variables |= !matches!(name, "found" | "sqlstate" | "sqlerrm" | "(unnamed row)" | "");
        if let Some(value) = fields.get("default_val") {
            self.expression(value);
        }
    }

    fn hide(&mut self, what: &str) {
        self.opaque.get_or_insert_with(|| what.to_owned());
    }

    fn body(&mut self, statements: Option<&Value>, under: &[Under]) {
        for statement in statements.and_then(Value::as_array).into_iter().flatten() {
            self.statement(statement, under);
        }
    }

    /// What stands under an IF's branches: each under its own condition, and under those before it not holding.
    fn branches(&mut self, fields: &Value, under: &[Under]) {
        let elsifs = fields.get("elsif_list").and_then(Value::as_array).into_iter().flatten();
        let elsifs = elsifs
            .map(|part| (part.pointer("/PLpgSQL_if_elsif/cond"), part.pointer("/PLpgSQL_if_elsif/stmts")));
        let mut under = under.to_vec();
        for (condition, body) in [(fields.get("cond"), fields.get("then_body"))].into_iter().chain(elsifs) {
            self.expression_of(condition);
            let nth = self.conditions;
            self.conditions += 1;
            let of = |holds| match text(condition) {
                Some(text) => Under::Condition { nth, text: text.to_owned(), holds },
                None => Under::Dark,
            };
            under.push(of(true));
            self.body(body, &under);
            under.pop();
            under.push(of(false));
        }
        self.body(fields.get("else_body"), &under);
    }

    fn statement(&mut self, statement: &Value, under: &[Under]) {
        let Some((kind, fields)) = statement.as_object().and_then(|fields| fields.iter().next()) else {
            return;
        };
        let kind = kind.strip_prefix("PLpgSQL_stmt_").unwrap_or(kind);
        match kind {
            "block" => {
                let handlers = fields.pointer("/exceptions/PLpgSQL_exception_block/exc_list");
                let handlers: &[Value] = handlers.and_then(Value::as_array).map_or(&[], Vec::as_slice);
                let mut within = under.to_vec();
                within.extend(guard(fields.get("body"), handlers));
                self.body(fields.get("body"), &within);
                let caught = [under, &[Under::Dark]].concat();
                for handler in handlers {
                    self.body(handler.pointer("/PLpgSQL_exception/action"), &caught);
                }
            }
            "if" => self.branches(fields, under),
            "case" => {
                self.expression_of(fields.get("t_expr"));
                for part in fields.get("case_when_list").and_then(Value::as_array).into_iter().flatten() {
                    self.expression_of(part.pointer("/PLpgSQL_case_when/expr"));
                    self.body(part.pointer("/PLpgSQL_case_when/stmts"), &[under, &[Under::Dark]].concat());
                }
                self.body(fields.get("else_stmts"), &[under, &[Under::Dark]].concat());
            }
            "execsql" => match text(fields.get("sqlstmt")) {
                Some(sql) => self.inside(sql, under),
                None => self.hide("a statement that cannot be read"),
            },
            "dynexecute" => self.execute(fields.get("query"), under),
            "perform" | "assign" | "return" | "assert" => {
                for field in ["expr", "cond", "message"] {
                    self.expression_of(fields.get(field));
                }
            }
            "raise" => {
                for parameter in fields.get("params").and_then(Value::as_array).into_iter().flatten() {
                    self.expression(parameter);
                }
            }
            "null" | "getdiag" | "exit" => {}
            "while" | "fori" | "fors" => self.turns(fields),
            "loop" | "forc" | "foreach_a" | "dynfors" => self.hide(LOOP),
            other => self.hide(&format!("{}, whose effect only running it tells", other.to_uppercase())),
        }
    }

    /// A loop whose statements stand there as they are; how often they run is not told.
    fn turns(&mut self, fields: &Value) {
        self.loops += 1;
        for bound in ["cond", "lower", "upper", "step"] {
            self.expression_of(fields.get(bound));
        }
        if let Some(sql) = text(fields.get("query")) {
            self.inside(sql, &[Under::Dark]);
        }
        self.body(fields.get("body"), &[Under::Dark]);
        self.loops -= 1;
    }

    fn inside(&mut self, sql: &str, under: &[Under]) {
        let (sql, under) = (sql.trim().to_owned(), under.to_vec());
        self.statements.push(Inside { sql, under, in_loop: self.loops > 0 });
    }

    /// EXECUTE of one constant text is that text; of anything else it is dark.
    fn execute(&mut self, query: Option<&Value>, under: &[Under]) {
        let constant =
            text(query).and_then(|text| parse::parse_one(&format!("select {text}")).ok()).and_then(constant);
        match constant {
            Some(sql) => self.inside(&sql, under),
            None => self.hide("EXECUTE of a text that is put together when it runs"),
        }
    }

    fn expression_of(&mut self, expression: Option<&Value>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    /// What a condition or value calls must have no effect.
    fn expression(&mut self, expression: &Value) {
        let Some(text) = text(Some(expression)) else { return };
        // An assignment's text is `name := value`.
        let value = text.split_once(":=").map_or(text, |(_, value)| value);
        let tree = parse::parse_one(&format!("select {value}")).or_else(|_| parse::parse_one(value));
        let Ok(tree) = tree else {
            self.hide(&format!("`{}`, which cannot be read", value.trim()));
            return;
        };
        let unknown = parse::function_names(&tree).find(|name| !is_harmless(name));
        if let Some(name) = unknown {
            self.hide(&format!("{name}(), whose effect only running it tells"));
        }
    }
}

/// What an EXCEPTION part means for the body before it.
fn guard(body: Option<&Value>, handlers: &[Value]) -> Option<Under> {
    const DUPLICATE: &[&str] = &["duplicate_object", "duplicate_column", "duplicate_table"];
    if handlers.is_empty() {
        return None;
    }
    let body = body.and_then(Value::as_array).into_iter().flatten();
    let is_alone = body.filter(|statement| statement.get("PLpgSQL_stmt_return").is_none()).count() == 1;
    let is_content = |handler: &Value| {
        let list =
            |path| handler.pointer(path).and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
        let named = |condition: &Value| {
            let name = condition.pointer("/PLpgSQL_condition/condname").and_then(Value::as_str);
            name.is_some_and(|name| DUPLICATE.contains(&name))
        };
        let silent = |statement: &Value| statement.get("PLpgSQL_stmt_null").is_some() || is_notice(statement);
        !list("/PLpgSQL_exception/conditions").is_empty()
            && list("/PLpgSQL_exception/conditions").iter().all(named)
            && list("/PLpgSQL_exception/action").iter().all(silent)
    };
    Some(if is_alone && handlers.iter().all(is_content) { Under::UnlessDuplicate } else { Under::Dark })
}

/// RAISE of a level that goes on.
fn is_notice(statement: &Value) -> bool {
    const ERROR: i64 = 21;
    let level = statement.pointer("/PLpgSQL_stmt_raise/elog_level").and_then(Value::as_i64);
    level.is_some_and(|level| level < ERROR)
}

/// The text of a `PLpgSQL_expr`.
fn text(expression: Option<&Value>) -> Option<&str> {
    expression?.pointer("/PLpgSQL_expr/query").and_then(Value::as_str)
}

/// The only value of `select '…'`.
fn constant(tree: NodeEnum) -> Option<String> {
    use parse::node::a_const::Val;
    let NodeEnum::SelectStmt(select) = tree else { return None };
    let [only] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &only.node else { return None };
    match target.val.as_ref()?.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(text.sval.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(sql: &str) -> Vec<(String, bool)> {
        let block = read(sql).unwrap();
        assert_eq!(block.opaque, None, "{sql}");
        block.statements.into_iter().map(|one| (one.sql.clone(), one.conditional())).collect()
    }

    #[test]
    fn statements_are_found_where_they_stand() {
        assert_eq!(
            inside("do $$ begin alter table t add column n int; execute 'create index i on t (n)'; end $$"),
            [("alter table t add column n int".into(), false), ("create index i on t (n)".into(), false)]
        );
        assert_eq!(
            inside(
                "do $x$ begin if not exists (select from pg_type where typname = 'mood') then create type mood as enum ('a'); else raise notice 'there'; end if; end $x$"
            ),
            [("create type mood as enum ('a')".into(), true)]
        );
        assert_eq!(
            inside(
                "do $$ begin create type mood as enum ('a'); exception when duplicate_object then null; end $$"
            ),
            [("create type mood as enum ('a')".into(), true)]
        );
    }

    #[test]
    fn what_only_running_tells_is_dark() {
        for sql in [
            "do $$ begin execute 'drop table ' || quote_ident('t'); end $$",
            "do $$ begin execute format('drop table %I', 't'); end $$",
            "do $$ declare r record; begin for r in execute 'select 1' loop perform 1; end loop; end $$",
            "do $$ begin loop null; end loop; end $$",
            "do $$ begin perform f(1); end $$",
            "do $$ begin if f() then null; end if; end $$",
            "do $$ declare n int := f(); begin null; end $$",
            "do $$ begin commit; end $$",
            "do $$ begin call p(); end $$",
        ] {
            assert!(read(sql).unwrap().opaque.is_some(), "{sql}");
        }
        assert_eq!(read("do language sql $$ select 1 $$"), None);
    }

    #[test]
    fn what_stands_in_a_loop_is_known_to() {
        let sql = "do $$ declare r record; begin for r in select a from t loop update n set a = 1; end loop; insert into n values (1); end $$";
        let block = read(sql).unwrap();
        let seen: Vec<_> = block.statements.iter().map(|one| (one.sql.as_str(), one.in_loop)).collect();
        assert_eq!(
            seen,
            [("select a from t", true), ("update n set a = 1", true), ("insert into n values (1)", false)]
        );
        assert_eq!(block.opaque, None);
    }

    #[test]
    fn variables_are_seen() {
        assert!(!read("do $$ begin null; end $$").unwrap().has_variables);
        assert!(read("do $$ declare n int; begin n := 1; end $$").unwrap().has_variables);
    }
}
