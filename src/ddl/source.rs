//! The operator's SQL files: cut into statements with their places, psql's own language understood or refused by name.

use super::{
    parse::{self, NodeEnum},
    psql,
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
}

impl SqlFile {
    /// From a path and its contents.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> SqlFile {
        SqlFile { name: name.into(), text: text.into() }
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn place(&self, offset: usize) -> Place {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        Place::Sql {
            file: self.name.clone(),
            line: number(before.matches('\n').count()),
            column: number(before[line_start..].chars().count()),
        }
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
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// Code, place, sentence and remedy.
    pub finding: Finding,
    /// The bytes the caret points at.
    pub span: Span,
}

impl SourceError {
    fn new(file: &SqlFile, code: &str, span: Span, what: String, help: &str) -> Box<SourceError> {
        let place = file.place(span.start);
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
    let remarks = understood
        .into_iter()
        .map(|(command, span)| Finding {
            code: "DDL_PSQL_COMMAND".into(),
            severity: Severity::Info,
            place: file.place(span.start),
            what: format!("`{command}` is a command of psql without effect on the database; it is left out"),
            help: "Nothing to do.".into(),
        })
        .collect();
    let statements = parsed
        .into_iter()
        .map(|one| Statement {
            sql: text[one.start..one.end].to_owned(),
            comment: text[one.leading..one.start].trim().to_owned(),
            span: Span { start: one.start, end: one.end },
            place: file.place(one.start),
            tree: one.tree,
            search_path: Vec::new(),
        })
        .collect();
    Ok((statements, remarks))
}

fn syntax_error(file: &SqlFile, error: parse::SyntaxError) -> Box<SourceError> {
    let start = error.offset.unwrap_or(0).min(file.text.len());
    let rest = &file.text[start..];
    let token = parse::tokens(rest).ok().and_then(|tokens| tokens.first().copied());
    let length = token.filter(|token| token.start == 0).map_or_else(|| first_char(rest), |token| token.end);
    let help = if rest.starts_with(':') {
        "If this is a variable of psql (`:name`), write its value into the file; only plain SQL is read here."
    } else {
        "Correct the statement. The grammar is PostgreSQL 18's; psql on that version would refuse it as well."
    };
    SourceError::new(file, "DDL_SYNTAX", Span { start, end: start + length }, error.message, help)
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The error as the operator gets it: file, line and column, the line itself, and a caret under the place.
pub fn explain(file: &SqlFile, error: &SourceError) -> Error {
    let snippet = Snippet::source(file.text.as_str())
        .annotation(AnnotationKind::Primary.span(error.span.start..error.span.end));
    let report = [Level::ERROR.primary_title("").element(snippet)];
    let rendered = Renderer::plain().render(&report);
    // The first line is the title, which is said our way.
    let excerpt: Vec<&str> = rendered.lines().skip(1).collect();
    let what = format!("{}: {}\n{}", error.finding.place, error.finding.what, excerpt.join("\n"));
    Error::new(Kind::Plan, what).hint(error.finding.help.as_str())
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
