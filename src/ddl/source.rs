//! The operator's SQL files: cut into statements with their places, psql's own language understood or refused by name.

use super::{
    directory::Convention,
    foreign,
    lines::Lines,
    parse::{self, NodeEnum, node::TransactionStmtKind},
    psql,
    session::Settings,
    unwrapped,
};
use crate::{
    error::{Error, Kind},
    finding::{Finding, Place, Severity},
    pg::name::Ident,
};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A SQL file, as the operator named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// Its path, as in the plan.
    pub name: String,
    /// What is in it.
    pub text: String,
    /// What the tool that owns it makes of it.
    pub convention: Convention,
}

impl SqlFile {
    /// Plain SQL, from a path and its contents.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> SqlFile {
        SqlFile { name: name.into(), text: text.into(), convention: Convention::default() }
    }
}

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// One statement of a file.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text, comments inside kept, no semicolon.
    pub sql: String,
    /// The comments right before it.
    pub comment: String,
    /// Where it is in its file.
    pub span: Span,
    /// Where it begins, for messages.
    pub place: Place,
    /// Its tree.
    pub tree: NodeEnum,
    /// The schemas in which unqualified names are looked up when it runs.
    pub search_path: Vec<Ident>,
    /// What SET gave it besides.
    pub settings: Settings,
}

/// The first statement of a text that begins with one, to be shown.
pub fn first_statement(text: &str) -> &str {
    psql::first_statement(text)
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// Code, place, sentence and remedy.
    pub finding: Finding,
    /// The bytes the caret points at.
    pub span: Span,
}

/// The codes of a [`SourceError`].
pub const UNREADABLE: &[&str] = &[
    "DDL_SYNTAX",
    "DDL_TOO_DEEP",
    "DDL_TRANSACTION_OPEN",
    "DDL_COPY_STDIN",
    "DDL_PSQL_COMMAND",
    "DDL_PSQL_VARIABLE",
];

impl SourceError {
    fn new(file: &SqlFile, code: &str, span: Span, what: String, help: &str) -> Box<SourceError> {
        let place = Lines::of(file).place(span.start);
        let (code, help) = (code.to_owned(), help.to_owned());
        Box::new(SourceError {
            finding: Finding { code, severity: Severity::Blocking, place, what, help },
            span,
        })
    }
}

/// The statements of a file, and remarks on psql commands that were understood.
///
/// # Errors
/// The first thing in it that is not SQL we can run: a syntax error, a psql command, inline COPY data.
pub fn statements(file: &SqlFile) -> Result<(Vec<Statement>, Vec<Finding>), Box<SourceError>> {
    let (text, understood) = psql::blank_commands(&file.text)
        .map_err(|bad| SourceError::new(file, bad.code, bad.span, bad.what, bad.help))?;
    let parsed = parse::parse(&text).map_err(|error| syntax_error(file, error))?;
    refuse_open_transaction(file, &parsed)?;
    let lines = Lines::of(file);
    let refused = unwrapped::finding(file, &parsed, |offset| lines.place(offset));
    let remarks = understood
        .into_iter()
        .map(|(command, span)| Finding {
            code: "DDL_PSQL_COMMAND".into(),
            severity: Severity::Info,
            place: lines.place(span.start),
            what: format!("`{command}` is a command of psql without effect on the database; it is left out"),
            help: "Nothing to do.".into(),
        })
        .chain(refused)
        .collect();
    let statements = parsed
        .into_iter()
        .map(|one| Statement {
            sql: text[one.start..one.end].to_owned(),
            comment: text[one.leading..one.start].trim().to_owned(),
            span: Span { start: one.start, end: one.end },
            place: lines.place(one.start),
            // Decoded lists have room for four items where one is the rule; a clone has none to spare, and 17,000 trees are kept.
            tree: one.tree.clone(),
            search_path: Vec::new(),
            settings: Settings::default(),
        })
        .collect();
    Ok((statements, remarks))
}

/// A BEGIN whose COMMIT is not in the file: psql would take everything back, and a file that was cut short looks so.
fn refuse_open_transaction(file: &SqlFile, parsed: &[parse::Parsed]) -> Result<(), Box<SourceError>> {
    let mut open = None;
    for one in parsed {
        let NodeEnum::TransactionStmt(transaction) = &one.tree else { continue };
        match transaction.kind() {
            TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => open = Some(one),
            TransactionStmtKind::TransStmtCommit | TransactionStmtKind::TransStmtRollback => open = None,
            _ => {}
        }
    }
    let Some(begin) = open else { return Ok(()) };
    Err(SourceError::new(
        file,
        "DDL_TRANSACTION_OPEN",
        Span { start: begin.start, end: begin.end },
        "this transaction is still open at the end of the file, so nothing in it would stay".into(),
        "Write COMMIT at the end, or bring back what the file has lost.",
    ))
}

fn syntax_error(file: &SqlFile, error: parse::SyntaxError) -> Box<SourceError> {
    let mut start = error.offset.unwrap_or(0).min(file.text.len());
    if file.text[start..].trim().is_empty() {
        // The end of what is written is where something is missing.
        start = file.text.trim_end().len();
    }
    let rest = &file.text[start..];
    // Of a token without end, the first line is enough.
    let line = rest.lines().next().unwrap_or_default();
    let token = parse::tokens(line).ok().and_then(|tokens| tokens.first().copied());
    let length = token.filter(|token| token.start == 0).map_or_else(|| first_char(rest), |token| token.end);
    let of = |help: &str| {
        SourceError::new(file, "DDL_SYNTAX", Span { start, end: start + length }, error.message.clone(), help)
    };
    if error.too_deep {
        return SourceError::new(
            file,
            "DDL_TOO_DEEP",
            Span { start, end: start + length },
            error.message,
            "Write a long chain of operators as a list, an array or several statements; data belongs into COPY, not into DDL.",
        );
    }
    if let Some((database, sign)) = foreign::database(&file.text, start) {
        return of(&format!(
            "This looks like {database}'s SQL ({sign}), and only PostgreSQL's is read. Name the files for PostgreSQL."
        ));
    }
    if rest.starts_with(':') {
        return of(
            "If this is a variable of psql (`:name`), write its value into the file; only plain SQL is read here.",
        );
    }
    if rest.trim().is_empty() {
        return of("The file ends in the middle of a statement: is it whole?");
    }
    of("Correct the statement. The grammar is PostgreSQL 18's; psql on that version would refuse it as well.")
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The error as the operator gets it: file, line and column, the line itself, and a caret under the place.
pub fn explain(file: &SqlFile, error: &SourceError) -> Error {
    let what = format!("{}: {}\n{}", error.finding.place, error.finding.what, excerpt(file, error.span));
    Error::new(Kind::Plan, what).hint(error.finding.help.as_str())
}

/// An error at some bytes of a file, shown as [`explain`] does.
pub fn explain_at(file: &SqlFile, span: Span, what: &str, help: &str) -> Error {
    let place = Lines::of(file).place(span.start);
    Error::new(Kind::Plan, format!("{place}: {what}\n{}", excerpt(file, span))).hint(help)
}

/// The line, and a caret under the bytes.
fn excerpt(file: &SqlFile, span: Span) -> String {
    let snippet =
        Snippet::source(file.text.as_str()).annotation(AnnotationKind::Primary.span(span.start..span.end));
    let report = [Level::ERROR.primary_title("").element(snippet)];
    let rendered = Renderer::plain().render(&report);
    // The first line is the title, which is said our way.
    rendered.lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let (statements, _) = statements(&SqlFile::new("a.sql", text)).unwrap();
        statements.iter().map(|one| format!("{} {}", one.place, one.sql)).collect()
    }

    #[test]
    fn statements_have_lines_and_columns_in_characters() {
        assert_eq!(
            places("select 'é'; select 2;\n  -- why\n  select\n 3;"),
            ["a.sql:1:1 select 'é'", "a.sql:1:13 select 2", "a.sql:3:3 select\n 3"]
        );
    }

    #[test]
    fn semicolons_inside_bodies_strings_and_comments_do_not_cut() {
        let text = "create function f() returns int language sql begin atomic select 1; select 2; end;\n\
            create function g() returns int language plpgsql as $x$ begin return 1; end $x$; -- ; \n\
            select E'it\\'s; ok', \"a;b\" /* ; /* ; */ ; */ from t;";
        assert_eq!(places(text).len(), 3);
    }

    #[test]
    fn comments_before_a_statement_are_kept() {
        let (all, _) = statements(&SqlFile::new("a.sql", "select 1;\n-- because\nselect 2")).unwrap();
        assert_eq!(all[1].comment, "-- because");
    }

    #[test]
    fn a_syntax_error_has_file_line_column_and_caret() {
        let file = SqlFile::new("sql/01.sql", "-- é\ncreate index é on t (a);\ncreate indx i on t (a);\n");
        let error = statements(&file).unwrap_err();
        assert_eq!(error.finding.place.to_string(), "sql/01.sql:3:8");
        insta::assert_snapshot!(explain(&file, &error).what, @r#"
        sql/01.sql:3:8: syntax error at or near "indx"
          |
        3 | create indx i on t (a);
          |        ^^^^
        "#);
    }

    #[test]
    fn a_file_cut_short_is_reported_at_its_end() {
        let file = SqlFile::new("a.sql", "create index i on t (a");
        let error = statements(&file).unwrap_err();
        assert_eq!(error.finding.place.to_string(), "a.sql:1:23");
        insta::assert_snapshot!(explain(&file, &error).what, @r"
        a.sql:1:23: syntax error at end of input
          |
        1 | create index i on t (a
          |                       ^
        ");
    }
}
