//! psql's own language inside SQL files: commands, variables, inline COPY data. Understood or refused by name, never skipped.

use super::source::Span;

/// Something of psql's that we cannot run.
pub(super) struct Refused {
    pub code: &'static str,
    pub span: Span,
    pub what: String,
    pub help: &'static str,
}

/// Commands that change nothing in the database.
const WITHOUT_EFFECT: &[&str] = &["restrict", "unrestrict", "echo", "qecho", "warn", "timing", "pset", "x"];

/// The text with understood commands blanked (every position stays), and those commands.
///
/// # Errors
/// The first command, variable or inline data that is not plain SQL.
pub(super) fn blank_commands(text: &str) -> Result<(String, Vec<(String, Span)>), Refused> {
    let mut reader = Reader { text, at: 0, words: Vec::new(), statement: None };
    let mut understood = Vec::new();
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
        understood.push((String::new(), Span { start: 0, end: reader.at }));
    }
    while let Some(byte) = reader.peek(0) {
        match byte {
            b'\\' => understood.push(reader.command()?),
            b';' => reader.end_of_statement()?,
            b':' if reader.is_variable() => return Err(reader.variable()),
            _ => reader.skip(byte),
        }
    }
    let mut blanked = text.to_owned();
    for (_, span) in &understood {
        blanked.replace_range(span.start..span.end, &" ".repeat(span.end - span.start));
    }
    understood.retain(|(command, _)| !command.is_empty());
    Ok((blanked, understood))
}

/// The first statement of a text that begins with one, up to its semicolon. A function's body between BEGIN ATOMIC and END is
/// cut at its first semicolon, so this is for showing only.
pub(super) fn first_statement(text: &str) -> &str {
    let mut reader = Reader { text, at: 0, words: Vec::new(), statement: None };
    while let Some(byte) = reader.peek(0).filter(|byte| *byte != b';') {
        reader.skip(byte);
    }
    text[..reader.at.min(text.len())].trim_end()
}

/// Walks over a text, knowing what is inside a string, an identifier or a comment.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The current statement's bare words, upper case.
    words: Vec<String>,
    /// Where the current statement's first word is.
    statement: Option<usize>,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn previous(&self) -> Option<u8> {
        self.at.checked_sub(1).and_then(|at| self.text.as_bytes().get(at).copied())
    }

    /// Moves past `needle`, or to the end.
    fn past(&mut self, from: usize, needle: &str) {
        self.at = self
            .text
            .get(from..)
            .and_then(|rest| rest.find(needle))
            .map_or(self.text.len(), |found| from + found + needle.len());
    }

    fn skip(&mut self, byte: u8) {
        match byte {
            b'-' if self.peek(1) == Some(b'-') => self.past(self.at, "\n"),
            b'/' if self.peek(1) == Some(b'*') => self.block_comment(),
            b'\'' => self.string(),
            b'"' => self.past(self.at + 1, "\""),
            b'$' if !self.previous().is_some_and(is_word) => self.dollar_quote(),
            _ if is_word(byte) => self.word(),
            _ => self.at += 1,
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (b'*', Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let bytes = self.text.as_bytes();
        let escapes = matches!(self.previous(), Some(b'e' | b'E'))
            && !self.at.checked_sub(2).is_some_and(|at| is_word(bytes[at]));
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += if byte == b'\\' && escapes { 2 } else { 1 };
            if byte == b'\'' {
                return;
            }
        }
        self.at = self.at.min(self.text.len());
    }

    fn dollar_quote(&mut self) {
        let rest = &self.text[self.at + 1..];
        let tag = rest.bytes().take_while(|byte| is_word(*byte) && *byte != b'$').count();
        let starts_with_digit = rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if rest.as_bytes().get(tag) != Some(&b'$') || starts_with_digit {
            self.at += 1;
            return;
        }
        let delimiter = self.text[self.at..self.at + tag + 2].to_owned();
        self.past(self.at + tag + 2, &delimiter);
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        self.statement.get_or_insert(start);
        self.words.push(self.text[start..self.at].to_ascii_uppercase());
    }

    fn end_of_statement(&mut self) -> Result<(), Refused> {
        let copies = self.words.first().is_some_and(|word| word == "COPY")
            && self.words.windows(2).any(|pair| pair[0] == "FROM" && pair[1] == "STDIN");
        if copies {
            let start = self.statement.unwrap_or(self.at);
            return Err(Refused {
                code: "DDL_COPY_STDIN",
                span: Span { start, end: self.at },
                what: "COPY … FROM stdin: rows inside a SQL file are data, not DDL".into(),
                help: "Load the rows another way (INSERT, or psql by hand on an empty table), and take them out of the file.",
            });
        }
        self.words.clear();
        self.statement = None;
        self.at += 1;
        Ok(())
    }

    fn command(&mut self) -> Result<(String, Span), Refused> {
        let start = self.at;
        let line = self.text[start..].lines().next().unwrap_or_default().trim_end();
        let name: String = line[1..].chars().take_while(|c| c.is_alphanumeric()).collect();
        let stops_on_error = name == "set" && line.split_whitespace().nth(1) == Some("ON_ERROR_STOP");
        let span = Span { start, end: start + line.len() };
        if WITHOUT_EFFECT.contains(&name.as_str()) || stops_on_error {
            self.at = span.end;
            return Ok((line.to_owned(), span));
        }
        Err(Refused {
            code: "DDL_PSQL_COMMAND",
            span,
            what: format!("`{line}` is a command of psql, not SQL"),
            help: "Only SQL is read here: write out what the command does (list included files in the plan, put values in place of variables), and remove it.",
        })
    }

    /// `:'name'`, `:"name"`; a bare `:name` is left to the grammar, since a slice `a[1:n]` looks the same.
    fn is_variable(&self) -> bool {
        self.previous() != Some(b':')
            && matches!(self.peek(1), Some(b'\'' | b'"'))
            && self.peek(2).is_some_and(is_word)
    }

    fn variable(&self) -> Refused {
        let quote = self.peek(1).unwrap_or(b'\'') as char;
        let end = self.text[self.at + 2..].find(quote).map_or(self.text.len(), |found| self.at + found + 3);
        Refused {
            code: "DDL_PSQL_VARIABLE",
            span: Span { start: self.at, end },
            what: format!("`{}` is a variable of psql", &self.text[self.at..end]),
            help: "Write its value into the file; only plain SQL is read here.",
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<(&'static str, &str)> {
        blank_commands(text).err().map(|bad| (bad.code, &text[bad.span.start..bad.span.end]))
    }

    #[test]
    fn dump_headers_are_blanked_in_place() {
        let text = "\\restrict abc\nselect 1;\n\\unrestrict abc\n";
        let Ok((blanked, commands)) = blank_commands(text) else { panic!("refused") };
        assert_eq!(blanked, "             \nselect 1;\n               \n");
        assert_eq!(commands.len(), 2);
    }

    #[test]
    fn commands_variables_and_inline_data_are_refused_by_name() {
        assert_eq!(refused("select 1;\n\\i other.sql\n"), Some(("DDL_PSQL_COMMAND", "\\i other.sql")));
        assert_eq!(refused("select 'x' \\gexec"), Some(("DDL_PSQL_COMMAND", "\\gexec")));
        assert_eq!(refused("select :'name'"), Some(("DDL_PSQL_VARIABLE", ":'name'")));
        assert_eq!(
            refused("copy public.t (a) from stdin;\n1\tit's\n\\.\n"),
            Some(("DDL_COPY_STDIN", "copy public.t (a) from stdin"))
        );
    }

    #[test]
    fn backslashes_inside_strings_comments_and_bodies_are_text() {
        for text in [
            "select 'a\\b', E'\\'\\\\', '\\';",
            "-- \\i x\nselect 1 /* \\q /* \\q */ */;",
            "create function f() returns text language sql as $a$ select '\\x' $a$;",
            "select \"a\\b\", a[1:2], x::\"T\", $1;",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
    }
}
