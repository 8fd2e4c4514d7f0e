//! Signs that a text which does not parse was written for another database.

/// A word, and whose it is. Compared without regard to case, as whole words.
const SIGNS: &[(&str, &str)] = &[
    ("AUTO_INCREMENT", "MySQL"),
    ("ENGINE=", "MySQL"),
    ("ENGINE =", "MySQL"),
    ("UNSIGNED", "MySQL"),
    ("DELIMITER", "MySQL"),
    ("LONGTEXT", "MySQL"),
    ("MEDIUMTEXT", "MySQL"),
    ("CHARACTER SET", "MySQL"),
    ("ON DUPLICATE KEY", "MySQL"),
    ("AUTOINCREMENT", "SQLite"),
    ("PRAGMA", "SQLite"),
    ("WITHOUT ROWID", "SQLite"),
    ("IDENTITY(", "SQL Server"),
    ("NVARCHAR", "SQL Server"),
    ("[dbo]", "SQL Server"),
    ("CLUSTERED", "SQL Server"),
    ("VARCHAR2", "Oracle"),
    ("STORING (", "CockroachDB"),
    ("INTERLEAVE IN", "CockroachDB"),
];

/// How far from the error a sign is looked for, in bytes: a statement of another database fails at its first odd word.
const NEAR_BYTES: usize = 2_000;

/// Whose SQL it is, and the sign, when there is one near an error.
pub(super) fn database(text: &str, error_at: usize) -> Option<(&'static str, &'static str)> {
    let near = window(text, error_at);
    let token = text.get(error_at..).unwrap_or_default();
    if token.starts_with('`') {
        return Some(("MySQL", "a name in backticks"));
    }
    let upper = near.to_ascii_uppercase();
    SIGNS
        .iter()
        .find(|(sign, _)| has_word(&upper, &sign.to_ascii_uppercase()))
        .map(|(sign, whose)| (*whose, *sign))
}

fn window(text: &str, at: usize) -> &str {
    let mut start = at.min(text.len()).saturating_sub(NEAR_BYTES);
    let mut end = at.saturating_add(NEAR_BYTES).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    &text[start..end]
}

fn has_word(text: &str, word: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let closed = !word.ends_with(|c: char| c.is_ascii_alphanumeric());
    text.match_indices(word).any(|(at, _)| {
        let bytes = text.as_bytes();
        !is_word(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && (closed || !is_word(bytes.get(at + word.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_databases_words_are_known() {
        let whose = |text: &str, at| database(text, at).map(|(whose, _)| whose);
        assert_eq!(whose("create table `t` (a int)", 13), Some("MySQL"));
        assert_eq!(whose("create table t (a int) engine=InnoDB", 23), Some("MySQL"));
        assert_eq!(whose("create table t (a integer primary key autoincrement)", 38), Some("SQLite"));
        assert_eq!(whose("create table t (engine int", 10), None);
        assert_eq!(whose("é".repeat(3_000).as_str(), 3_000), None);
    }
}
