//! PgBouncer's connection strings: `host=… port=… dbname='…'`, with the place of every part. Pure.
//!
//! PgBouncer's grammar is smaller than libpq's: a value is bare up to the next blank, or between single quotes with
//! `''` for a quote; there are no backslashes (`cstr_get_pair` of its `util.c`).

use std::ops::Range;

/// One `key=value`, with where it stands in the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value, without quotes.
    pub value: String,
    /// The value as it is written, quotes included.
    pub written: Range<usize>,
    /// Key, sign and value.
    pub whole: Range<usize>,
}

/// Reads a connection string.
///
/// # Errors
/// A sentence fragment that says what cannot be read; it quotes keys only, never a value.
pub fn pairs(text: &str) -> Result<Vec<Pair>, String> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut at = skip_blanks(text, 0);
    while at < text.len() {
        let pair = pair(text, at)?;
        if pairs.iter().any(|earlier| earlier.key == pair.key) {
            return Err(format!("`{}` is given twice", pair.key));
        }
        at = skip_blanks(text, pair.whole.end);
        pairs.push(pair);
    }
    Ok(pairs)
}

fn pair(text: &str, start: usize) -> Result<Pair, String> {
    let key_end = find(text, start, |c| c == '=' || is_blank(c));
    let key = &text[start..key_end];
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("a key of letters, digits and `_` was expected before `=`".into());
    }
    let sign = skip_blanks(text, key_end);
    if !text[sign..].starts_with('=') {
        return Err(format!("`{key}` is not followed by `=`"));
    }
    let from = skip_blanks(text, sign + 1);
    let (value, end) = if text[from..].starts_with('\'') {
        quoted(text, from).ok_or_else(|| format!("the quote of `{key}` is not closed"))?
    } else {
        let end = find(text, from, is_blank);
        (text[from..end].to_owned(), end)
    };
    if text[end..].chars().next().is_some_and(|c| !is_blank(c)) {
        return Err(format!("a blank was expected after the quoted value of `{key}`"));
    }
    Ok(Pair { key: key.to_owned(), value, written: from..end, whole: start..end })
}

/// The value between quotes that begin at `from`, and the place after the closing one.
fn quoted(text: &str, from: usize) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text[from + 1..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '\'') {
            chars.next();
            value.push('\'');
        } else {
            return Some((value, from + 1 + at + 1));
        }
    }
    None
}

/// A value as PgBouncer reads it back.
pub fn write_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/,@%+~[]".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

/// What C's `isspace` calls a blank, which is what PgBouncer uses.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

fn skip_blanks(text: &str, from: usize) -> usize {
    find(text, from, |c| !is_blank(c))
}

fn find(text: &str, from: usize, stop: impl Fn(char) -> bool) -> usize {
    text[from..].find(stop).map_or(text.len(), |offset| from + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        pairs(text).map(|pairs| pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
    }

    #[test]
    fn values_are_bare_or_quoted() {
        let pairs = read(" host=a port = 5 dbname='it''s x' password= ").unwrap();
        let expected = [("host", "a"), ("port", "5"), ("dbname", "it's x"), ("password", "")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_pgbouncer_would_not_read_is_refused() {
        for text in ["host", "host=a host=b", "password='s3cret", "='x'", "dbname='s3cret'x", "a-b=c"] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_written_value_is_read_back(value in "[^\\x00-\\x1f]{0,12}") {
            let text = format!("host={} port=1", write_value(&value));
            prop_assert_eq!(&pairs(&text).unwrap()[0].value, &value);
        }
    }
}
