//! The real grammar: the only file that names the parser's crate (besides [`super::cursor`], which links to it).

use super::cursor;
pub use pg_query::{NodeEnum, protobuf as node};
use serde_json::{Map, Value};

/// A statement of a text: its tree, and where it is (bytes; leading blanks and comments left out, no semicolon).
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The tree.
    pub tree: NodeEnum,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Where the comments and blanks before it begin.
    pub leading: usize,
}

/// Why a text does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// As Postgres says it.
    pub message: String,
    /// Byte offset, when known.
    pub offset: Option<usize>,
    /// It is good SQL, but nested deeper than we read.
    pub too_deep: bool,
}

impl SyntaxError {
    fn new(message: impl Into<String>, offset: Option<usize>) -> SyntaxError {
        SyntaxError { message: message.into(), offset, too_deep: false }
    }
}

/// The longest message of the grammar that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 120;

/// A token of a text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// What it is.
    pub kind: node::Token,
}

/// The tokens of a text, comments left out.
///
/// # Errors
/// When a string, comment or identifier does not end.
pub fn tokens(sql: &str) -> Result<Vec<Token>, SyntaxError> {
    let scanned = pg_query::scan(sql).map_err(|_| syntax_error(sql))?;
    Ok(scanned
        .tokens
        .iter()
        .map(|token| Token {
            start: byte(token.start),
            end: byte(token.end),
            kind: node::Token::try_from(token.token).unwrap_or(node::Token::Nul),
        })
        .filter(|token| !matches!(token.kind, node::Token::SqlComment | node::Token::CComment))
        .collect())
}

/// The statements of a text.
///
/// # Errors
/// When it is not valid SQL; the first error only, since the grammar stops there.
pub fn parse(sql: &str) -> Result<Vec<Parsed>, SyntaxError> {
    let statements = raw_statements(sql)?;
    let tokens = tokens(sql)?;
    let mut parsed = Vec::new();
    for raw in statements {
        let Some(tree) = raw.stmt.and_then(|stmt| stmt.node) else { continue };
        let from = byte(raw.stmt_location);
        let limit = if raw.stmt_len == 0 { sql.len() } else { from + byte(raw.stmt_len) };
        // The grammar's span may begin and end with blanks and comments.
        let within = &tokens[tokens.partition_point(|token| token.start < from)..];
        let within = &within[..within.partition_point(|token| token.end <= limit)];
        let mut within = within.iter().filter(|token| token.kind != node::Token::Ascii59);
        let Some(first) = within.next() else { continue };
        let end = within.next_back().unwrap_or(first).end;
        let leading = tokens[..tokens.partition_point(|token| token.start < first.start)]
            .iter()
            .rfind(|token| token.kind == node::Token::Ascii59)
            .map_or(0, |semicolon| semicolon.end);
        parsed.push(Parsed { tree, start: first.start, end, leading });
    }
    Ok(parsed)
}

fn raw_statements(sql: &str) -> Result<Vec<node::RawStmt>, SyntaxError> {
    match pg_query::parse(sql, 0) {
        Ok(result) => Ok(result.protobuf.stmts),
        Err(error) if is_too_deep(&error) => Err(too_deep(sql)),
        Err(_) => Err(syntax_error(sql)),
    }
}

/// The trees of a text's statements, without their places, which cost a second reading.
///
/// # Errors
/// As [`parse`].
pub fn trees(sql: &str) -> Result<Vec<NodeEnum>, SyntaxError> {
    Ok(raw_statements(sql)?.into_iter().filter_map(|raw| raw.stmt?.node).collect())
}

/// The tree of a text that must hold exactly one statement.
///
/// # Errors
/// When it does not parse or holds another number of statements.
pub fn parse_one(sql: &str) -> Result<NodeEnum, SyntaxError> {
    let mut trees = trees(sql)?;
    match (trees.pop(), trees.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(SyntaxError::new("not exactly one statement", None)),
    }
}

/// The tree of a plpgsql block: a DO statement, whole. `None` when it is not plpgsql's language.
pub fn plpgsql(sql: &str) -> Option<Value> {
    pg_query::parse_plpgsql(sql).ok()
}

/// Whether two trees mean the same: equal in everything but positions in the text.
pub fn same_tree(left: &NodeEnum, right: &NodeEnum) -> bool {
    match (shape(left), shape(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// A tree without positions.
fn shape(tree: &NodeEnum) -> Option<Value> {
    let mut value = serde_json::to_value(tree).ok()?;
    forget_positions(&mut value);
    Some(value)
}

fn forget_positions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !is_position(name));
            fields.values_mut().for_each(forget_positions);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_positions),
        _ => {}
    }
}

pub(super) fn is_position(field: &str) -> bool {
    field == "location"
        || field == "stmt_len"
        || field.ends_with("_location")
        || field.ends_with("list_start")
        || field.ends_with("list_end")
}

/// Looks at every object of a tree's JSON form, the outer before the inner: the generated types have no visitor of their own.
fn each(tree: &NodeEnum, look: &mut dyn FnMut(&Map<String, Value>)) {
    fn walk(value: &Value, look: &mut dyn FnMut(&Map<String, Value>)) {
        match value {
            Value::Object(fields) => {
                look(fields);
                fields.values().for_each(|field| walk(field, look));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, look)),
            _ => {}
        }
    }
    if let Ok(value) = serde_json::to_value(tree) {
        walk(&value, look);
    }
}

fn string(node: &Value) -> Option<&str> {
    node.pointer("/node/String/sval")?.as_str()
}

/// Every relation a tree names, wherever in it, as (schema, name). What WITH names is none, where its name is known: in a
/// non-recursive WITH, `t as (select … from t)` reads the table.
pub fn relations(tree: &NodeEnum) -> Vec<(String, String)> {
    relation_places(tree).into_iter().map(|place| (place.schema, place.name)).collect()
}

/// A relation that a tree names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationPlace {
    /// Its schema; empty when none is written.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Where the name begins in the text, its schema first; in bytes.
    pub at: usize,
    /// It has another name in the query.
    pub has_alias: bool,
}

/// As [`relations`], with the places in the text that was parsed.
pub fn relation_places(tree: &NodeEnum) -> Vec<RelationPlace> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::to_value(tree) {
        named(&value, &mut Vec::new(), &mut found);
    }
    found
}

fn named<'a>(value: &'a Value, with: &mut Vec<&'a str>, found: &mut Vec<RelationPlace>) {
    match value {
        Value::Object(fields) => {
            let outside = with.len();
            let clause = fields.get("with_clause").filter(|clause| !clause.is_null());
            if let Some(clause) = clause {
                named_in_with(clause, with, found);
            }
            if let (Some(Value::String(schema)), Some(Value::String(name))) =
                (fields.get("schemaname"), fields.get("relname"))
                && !(schema.is_empty() && with.contains(&name.as_str()))
            {
                let at = fields.get("location").and_then(Value::as_i64).unwrap_or(0);
                found.push(RelationPlace {
                    schema: schema.clone(),
                    name: name.clone(),
                    at: usize::try_from(at).unwrap_or(0),
                    has_alias: fields.get("alias").is_some_and(|alias| !alias.is_null()),
                });
            }
            let rest = fields.iter().filter(|(field, _)| *field != "with_clause");
            rest.for_each(|(_, field)| named(field, with, found));
            with.truncate(outside);
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, with, found)),
        _ => {}
    }
}

/// The queries of a WITH, each of which sees the names before it; of a recursive one, all of them.
fn named_in_with<'a>(clause: &'a Value, with: &mut Vec<&'a str>, found: &mut Vec<RelationPlace>) {
    let name = |query: &'a Value| query.pointer("/node/CommonTableExpr/ctename").and_then(Value::as_str);
    let queries = clause.get("ctes").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let recursive = clause.get("recursive").and_then(Value::as_bool) == Some(true);
    if recursive {
        with.extend(queries.iter().filter_map(name));
    }
    for query in queries {
        named(query, with, found);
        if !recursive {
            with.extend(name(query));
        }
    }
}

/// Whether a query locks the rows it reads (`FOR UPDATE` and the like), wherever in it.
pub fn locks_rows(tree: &NodeEnum) -> bool {
    let mut found = false;
    each(tree, &mut |fields| found |= fields.contains_key("LockingClause"));
    found
}

/// The relations whose rows a tree writes, wherever in it, as (schema, name).
pub fn written(tree: &NodeEnum) -> Vec<(String, String)> {
    let mut found = Vec::new();
    each(tree, &mut |fields| {
        let writes = ["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"];
        let ranges = writes.iter().filter_map(|form| fields.get(*form)?.get("relation"));
        for range in ranges {
            if let (Some(Value::String(schema)), Some(Value::String(name))) =
                (range.get("schemaname"), range.get("relname"))
            {
                found.push((schema.clone(), name.clone()));
            }
        }
    });
    found
}

/// Whether a query selects `*`, wherever in a tree.
pub fn has_star(tree: &NodeEnum) -> bool {
    let mut found = false;
    each(tree, &mut |fields| {
        let targets = fields.get("target_list").and_then(Value::as_array);
        found |= targets.into_iter().flatten().any(|target| {
            let fields = target.pointer("/node/ResTarget/val/node/ColumnRef/fields");
            let last = fields.and_then(Value::as_array).and_then(|fields| fields.last());
            last.is_some_and(|last| last.pointer("/node/AStar").is_some())
        });
    });
    found
}

/// The functions a tree calls, wherever in it, each with its schema when one is written.
pub fn functions(tree: &NodeEnum) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    each(tree, &mut |fields| {
        if let Some(Value::Array(parts)) = fields.get("funcname") {
            found.push(parts.iter().filter_map(string).map(str::to_owned).collect());
        }
    });
    found
}

/// The functions a tree calls, by their names alone.
pub fn function_names(tree: &NodeEnum) -> impl Iterator<Item = String> {
    functions(tree).into_iter().map(|mut parts| parts.pop().unwrap_or_default())
}

/// The columns a tree names, once each, in order; a qualified name by its last part.
pub fn columns(tree: &NodeEnum) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    each(tree, &mut |fields| {
        let parts = fields.get("ColumnRef").and_then(|column| column.get("fields")).and_then(Value::as_array);
        let last = parts.and_then(|parts| parts.last()).and_then(string);
        if let Some(name) = last.filter(|name| !found.iter().any(|before| before == name)) {
            found.push(name.to_owned());
        }
    });
    found
}

/// The strings of a list of `String` nodes, such as a qualified name.
pub fn strings(nodes: &[node::Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|item| match &item.node {
            Some(NodeEnum::String(text)) => Some(text.sval.clone()),
            _ => None,
        })
        .collect()
}

/// The grammar looks at the stack it has; what it lets through, the decoder may find too deep.
fn is_too_deep(error: &pg_query::Error) -> bool {
    match error {
        pg_query::Error::Decode(_) => true,
        pg_query::Error::Parse(message) => message.contains("stack depth limit exceeded"),
        _ => false,
    }
}

/// The first statement that is too deep.
fn too_deep(sql: &str) -> SyntaxError {
    let message = "this statement is nested too deeply to be read";
    let parts = pg_query::split_with_parser(sql).unwrap_or_default();
    let is_the_one = |part: &&&str| pg_query::parse(part, 0).is_err_and(|error| is_too_deep(&error));
    let part = parts.iter().find(is_the_one);
    let offset = part.map(|part| {
        // The grammar's span may begin with blanks and comments.
        let first = tokens(part).ok().and_then(|tokens| tokens.first().map(|token| token.start)).unwrap_or(0);
        part.as_ptr().addr() - sql.as_ptr().addr() + first
    });
    SyntaxError { message: message.into(), offset, too_deep: true }
}

fn syntax_error(sql: &str) -> SyntaxError {
    if let Some(at) = sql.find('\0') {
        return SyntaxError::new("the text holds a NUL character", Some(at));
    }
    match cursor::first_error(sql) {
        Some((message, position)) => {
            let nth = |nth| sql.char_indices().nth(nth).map_or(sql.len(), |(at, _)| at);
            SyntaxError::new(short(&message), position.checked_sub(1).map(nth))
        }
        None => SyntaxError::new("the statement cannot be parsed", None),
    }
}

/// Of a string without an end, the message quotes all that follows.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.len() == message.len() && line.chars().count() <= MESSAGE_CHARS_MAX {
        return message.to_owned();
    }
    format!("{}…\"", line.chars().take(MESSAGE_CHARS_MAX).collect::<String>())
}

fn byte(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_leave_out_blanks_comments_and_semicolons() {
        let sql = "-- é first\nselect 1 ; /* two */ select 'é;' /* in */ , 2 -- end\n;  ";
        let texts: Vec<&str> = parse(sql).unwrap().iter().map(|one| &sql[one.start..one.end]).collect();
        assert_eq!(texts, ["select 1", "select 'é;' /* in */ , 2"]);
    }

    #[test]
    fn trees_are_compared_without_positions_but_with_everything_else() {
        let tree = |sql| parse_one(sql).unwrap();
        assert!(same_tree(&tree("create index i on t (a)"), &tree("CREATE  INDEX i /* x */ ON t(a)")));
        assert!(!same_tree(&tree("create index i on t (a)"), &tree("create index i on t (a desc)")));
        assert!(same_tree(
            &tree("create index i on t ((a in (1,2)))"),
            &tree("create index i  on t ((a in ( 1, 2 )))")
        ));
    }

    #[test]
    fn what_with_names_is_no_relation() {
        let named = |sql| {
            let mut names: Vec<_> =
                relations(&parse_one(sql).unwrap()).into_iter().map(|(_, name)| name).collect();
            names.sort();
            names.dedup();
            names.join(" ")
        };
        assert_eq!(
            named("with a as (select * from t), b as (select * from a) insert into u select * from b"),
            "t u"
        );
        assert_eq!(named("with t as (select * from t) select * from t"), "t");
        assert_eq!(named("with recursive t as (select 1 union select * from t) select * from t, s.t x"), "t");
        assert_eq!(named("select * from (with a as (select 1) select * from a) x, a"), "a");
    }

    #[test]
    fn what_is_written_is_found_wherever_it_is_written() {
        let tree =
            parse_one("with d as (delete from t where a returning *) insert into s.u select * from d, v")
                .unwrap();
        let mut found = written(&tree);
        found.sort();
        assert_eq!(found, [(String::new(), "t".to_owned()), ("s".to_owned(), "u".to_owned())]);
    }

    #[test]
    fn a_star_is_seen_where_columns_are_meant() {
        let star = |sql| has_star(&parse_one(sql).unwrap());
        assert!(star("select * from t") && star("select 1 from (select t.* from t) x"));
        assert!(!star("select count(*), 2 * a from t"));
    }

    #[test]
    fn functions_are_found_wherever_they_are_called() {
        let tree = parse_one("select a.f(1) from t where exists (select g(max(x)) from u)").unwrap();
        let mut found: Vec<_> = function_names(&tree).collect();
        found.sort();
        assert_eq!(found, ["f", "g", "max"]);
    }

    #[test]
    fn an_error_has_a_byte_offset() {
        let error = parse("select 'é';\nselect frm from x y z").unwrap_err();
        assert_eq!(error.offset, Some(33), "{error:?}");
        assert_eq!(parse("select 'unended").unwrap_err().offset, Some(7));
    }
}
