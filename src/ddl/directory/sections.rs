//! Files that hold the way forward and the way back, told apart by comments. The way back is blanked, so that every position
//! stays, and it can never run.

use super::{Entry, Listing, RunAs, Tool};
use crate::{
    ddl::source::{self, Span, SqlFile},
    error::Result,
};

/// What a line says to the tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The way forward begins.
    Up { transaction: bool },
    /// The way back begins.
    Down,
    /// The file is not run in a transaction.
    NoTransaction,
    /// Lines up to [`Mark::End`] are one statement.
    Begin,
    /// The end of such lines.
    End,
    /// Variables are filled in from here on.
    FillIn,
    /// It begins like one of the tool's, and is none.
    Unknown,
}

/// How a tool marks sections.
pub(super) struct Syntax {
    pub tool: Tool,
    /// The mark of a line, from what follows `--`, trimmed; `None`: an ordinary comment.
    pub mark: fn(&str) -> Option<Mark>,
    /// The line that begins the way forward.
    pub up: &'static str,
    /// How a file runs that asks for no transaction.
    pub without_transaction: RunAs,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Before,
    Up,
    Down,
}

/// The entry as a file in which only the way forward is left.
pub(super) fn forward(listing: &Listing, entry: &Entry, syntax: &Syntax) -> Result<SqlFile> {
    let mut file = listing.file(entry, syntax.tool, RunAs::Transaction)?;
    let mut section = Section::Before;
    let mut begun: Option<Span> = None;
    let mut blanked = String::with_capacity(file.text.len());
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        let span = Span { start: at, end: at + line.trim_end().len() };
        at += line.len();
        let bare = line.trim_start_matches('\u{feff}');
        let mark = bare.strip_prefix("--").and_then(|rest| (syntax.mark)(rest.trim()));
        let refuse = |what: &str, help: &str| Err(source::explain_at(&file, span, what, help));
        match (mark, section) {
            (None, Section::Before) if !is_blank_or_comment(bare) => {
                return refuse(
                    &format!("this stands before `{}`", syntax.up),
                    &format!("{} runs only what follows that line: write it first", syntax.tool),
                );
            }
            (None, _) | (Some(Mark::NoTransaction), _) => {}
            (Some(Mark::Up { transaction }), Section::Before) => {
                section = Section::Up;
                if !transaction {
                    file.convention.run_as = syntax.without_transaction;
                }
            }
            (Some(Mark::Down), Section::Up) if begun.is_none() => section = Section::Down,
            (Some(Mark::Begin), Section::Up | Section::Down) if begun.is_none() => begun = Some(span),
            (Some(Mark::End), _) if begun.is_some() => begun = None,
            (Some(Mark::FillIn), _) => {
                return refuse(
                    "variables are filled in from here on, and their values are not known here",
                    "write the values",
                );
            }
            (Some(Mark::Unknown), _) => {
                return refuse(
                    &format!("{} has no such line", syntax.tool),
                    "correct it: what follows could run by mistake",
                );
            }
            (Some(_), _) => {
                return refuse(
                    "this line is out of its place",
                    &format!(
                        "a file of {} is `{}`, then the way back; statements that are opened are closed",
                        syntax.tool, syntax.up
                    ),
                );
            }
        }
        if mark == Some(Mark::NoTransaction) {
            file.convention.run_as = syntax.without_transaction;
        }
        if section == Section::Down {
            blank(line, &mut blanked);
        } else {
            blanked.push_str(line);
        }
    }
    if let Some(span) = begun {
        return Err(source::explain_at(
            &file,
            span,
            "what is opened here is not closed",
            "is the file whole? close it",
        ));
    }
    if section == Section::Before {
        let end = file.text.len();
        let span = Span { start: end, end };
        return Err(source::explain_at(
            &file,
            span,
            &format!("the file has no line `{}`", syntax.up),
            &format!("{} would not run it: write that line before what runs", syntax.tool),
        ));
    }
    file.text = blanked;
    Ok(file)
}

/// Blanks of the same length in bytes, the line's end kept.
fn blank(line: &str, blanked: &mut String) {
    let text = line.trim_end_matches(['\r', '\n']);
    blanked.extend(std::iter::repeat_n(' ', text.len()));
    blanked.push_str(&line[text.len()..]);
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with("--")
}
