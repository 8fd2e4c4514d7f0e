//! The operator's own lines, quoted with a caret under the statement.

use crate::{
    ddl::{SqlFile, source},
    finding::Place,
};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::collections::BTreeMap;

/// Of a longer statement, only the first lines are quoted.
const LINES_MAX: usize = 12;
/// Of a longer line, only the beginning.
const LINE_CHARS_MAX: usize = 160;

/// The files, with the beginnings of their lines.
pub(super) struct Originals<'a> {
    files: BTreeMap<&'a str, (&'a str, Vec<usize>)>,
}

/// A statement in its file.
pub(super) struct Original<'a> {
    /// From its first character to before its semicolon.
    pub sql: &'a str,
    /// The number of its first line.
    line: usize,
    /// What stands before it on that line.
    before: &'a str,
}

impl<'a> Originals<'a> {
    pub fn new(files: &'a [SqlFile]) -> Originals<'a> {
        let lines = |text: &str| {
            let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect()
        };
        let files = files.iter().map(|file| (file.name.as_str(), (file.text.as_str(), lines(&file.text))));
        Originals { files: files.collect() }
    }

    /// The statement that begins at a place; `None` for other places.
    pub fn at(&self, place: &Place) -> Option<Original<'a>> {
        let Place::Sql { file, line, column } = place else { return None };
        let (text, starts) = self.files.get(file.as_str())?;
        let line = usize::try_from(*line).ok()?;
        let start = *starts.get(line.checked_sub(1)?)?;
        let before_chars = usize::try_from(*column).ok()?.checked_sub(1)?;
        let before: usize = text[start..].chars().take(before_chars).map(char::len_utf8).sum();
        let sql = source::first_statement(&text[start + before..]);
        Some(Original { sql, line, before: &text[start..start + before] })
    }
}

impl Original<'_> {
    /// The lines with a caret; colors as annotate-snippets gives them, since `Ui` takes them out where nobody wants them.
    pub fn quoted(&self, label: &str) -> String {
        let (mut quote, mut cut) = (String::new(), false);
        for (at, line) in self.sql.lines().enumerate() {
            if at == LINES_MAX {
                cut = true;
                break;
            }
            if at > 0 {
                quote.push('\n');
            }
            quote.extend(line.chars().take(LINE_CHARS_MAX));
            cut |= line.chars().nth(LINE_CHARS_MAX).is_some();
        }
        let quote = quote.trim_end();
        // A comment or a long line before it says nothing of it; blanks keep the column.
        let before = if self.before.chars().count() > LINE_CHARS_MAX { "" } else { self.before };
        let source = format!("{before}{quote}{}", if cut { " …" } else { "" });
        let span = before.len()..before.len() + quote.len();
        let annotation = AnnotationKind::Primary.span(span);
        let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
        let snippet = Snippet::source(source).line_start(self.line).fold(false).annotation(annotation);
        let report = [Level::NOTE.primary_title("").element(snippet)];
        let rendered = Renderer::styled().render(&report);
        // The first line is the title, which is said our way.
        rendered.lines().skip(1).map(|line| format!("{}\n", line.trim_end())).collect()
    }
}
