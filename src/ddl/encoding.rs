//! Bytes of a file as text: UTF-8, or one error that says what they are instead.

use crate::error::{Error, Kind, Result};

/// How much of a bad line is shown, in characters.
const SHOWN_MAX: usize = 100;

/// The text of a file; a byte order mark stays in it, since every position counts from there.
///
/// # Errors
/// [`Kind::Plan`] with line, column and a caret when it is not UTF-8.
pub fn text(name: &str, bytes: Vec<u8>) -> Result<String> {
    let foreign = match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        // SQL begins with an ASCII character, so a NUL beside it is half of a UTF-16 one.
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    };
    if foreign {
        return Err(Error::new(Kind::Plan, format!("{name}: this is UTF-16 text, and only UTF-8 is read"))
            .hint(format!("save it as UTF-8: iconv -f utf-16 -t utf-8 {name}")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        not_utf8(name, error.as_bytes(), good)
    })
}

fn not_utf8(name: &str, bytes: &[u8], bad_at: usize) -> Error {
    let start = bytes[..bad_at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = bytes[bad_at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| bad_at + at);
    let number = bytes[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    let before: Vec<char> = String::from_utf8_lossy(&bytes[start..bad_at]).chars().collect();
    // The last characters before the bad one are enough to find it.
    let shown: String = before[before.len().saturating_sub(SHOWN_MAX)..].iter().collect();
    let rest: String = String::from_utf8_lossy(&bytes[bad_at..end]).chars().take(SHOWN_MAX).collect();
    let margin = " ".repeat(number.to_string().len());
    let indent: String = shown.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let byte = bytes.get(bad_at).copied().unwrap_or_default();
    let what = format!(
        "{name}:{number}:{}: this is not UTF-8 text: byte 0x{byte:02x}\n{margin} |\n{number} | {shown}{}\n{margin} | {indent}^",
        before.len() + 1,
        rest.trim_end()
    );
    Error::new(Kind::Plan, what)
        .hint(format!("save it as UTF-8; if it was written in Latin-1: iconv -f latin1 -t utf-8 {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_shown_where_it_is() {
        let error = text("a.sql", b"select 1;\n  -- caf\xe9 noir\nselect 2;".to_vec()).unwrap_err();
        insta::assert_snapshot!(error.what, @r"
        a.sql:2:9: this is not UTF-8 text: byte 0xe9
          |
        2 |   -- caf� noir
          |         ^
        ");
        assert!(text("a.sql", b"\xff\xfes\0e\0".to_vec()).unwrap_err().what.contains("UTF-16"));
        assert!(text("a.sql", b"s\0e\0".to_vec()).unwrap_err().what.contains("UTF-16"));
        assert_eq!(text("a.sql", "\u{feff}é".into()).unwrap(), "\u{feff}é");
    }
}
