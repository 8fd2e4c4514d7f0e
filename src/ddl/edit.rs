//! Rewriting by editing the operator's own text, so that comments and spelling stay; every edit is proved by parsing it again.

use super::parse::{self, NodeEnum, Token, node};

/// A replacement of bytes.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    /// First byte replaced.
    pub start: usize,
    /// Byte after the last replaced.
    pub end: usize,
    /// What comes instead.
    pub text: String,
}

impl Edit {
    /// Puts text in without taking any away.
    pub fn insert(at: usize, text: impl Into<String>) -> Edit {
        Edit { start: at, end: at, text: text.into() }
    }

    /// Replaces a token.
    pub fn replace(token: Token, text: impl Into<String>) -> Edit {
        Edit { start: token.start, end: token.end, text: text.into() }
    }
}

/// The edited text, when its tree is exactly the wanted one.
pub(super) fn proved(sql: &str, mut edits: Vec<Edit>, wanted: &NodeEnum) -> Option<String> {
    edits.sort_by_key(|edit| edit.start);
    let mut text = sql.to_owned();
    for edit in edits.iter().rev() {
        text.replace_range(edit.start..edit.end, &edit.text);
    }
    let tree = parse::parse_one(&text).ok()?;
    parse::same_tree(&tree, wanted).then_some(text)
}

/// The first token of a kind.
pub(super) fn find(tokens: &[Token], kind: node::Token) -> Option<usize> {
    tokens.iter().position(|token| token.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_means_something_else_is_refused() {
        let sql = "drop index a /* not b */";
        let wanted = parse::parse_one("drop index concurrently a").unwrap();
        assert_eq!(
            proved(sql, vec![Edit::insert(10, " CONCURRENTLY")], &wanted).unwrap(),
            "drop index CONCURRENTLY a /* not b */"
        );
        assert!(proved(sql, vec![Edit::insert(12, "b")], &wanted).is_none());
    }
}
