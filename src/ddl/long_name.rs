//! Names of more than 63 bytes: the server cuts them without a word, and then two of them may be one, or none be found.

use super::{
    parse::{self, node::Token as Kind},
    source::Statement,
};
use crate::finding::{Finding, Severity};

/// Bytes a name may have (`NAMEDATALEN - 1`).
const LONGEST: usize = 63;

/// A name in the statement that the server would cut.
pub(super) fn finding(statement: &Statement) -> Option<Finding> {
    let long = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '"' | '$'));
    // Only a text with a long word, or with quotes, is looked at closely.
    if !statement.sql.contains('"') && statement.sql.split(long).all(|word| word.len() <= LONGEST) {
        return None;
    }
    let tokens = parse::tokens(&statement.sql).ok()?;
    let name = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Ident | Kind::Uident))
        .map(|token| statement.sql[token.start..token.end].trim_matches('"').replace("\"\"", "\""))
        .find(|name| name.len() > LONGEST)?;
    let mut cut = LONGEST;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    Some(Finding {
        code: "DDL_NAME_TOO_LONG".into(),
        severity: Severity::Blocking,
        place: statement.place.clone(),
        what: format!(
            "the name {name} has {} bytes; the server would cut it to {} without a word",
            name.len(),
            &name[..cut]
        ),
        help: format!(
            "Use a name of at most {LONGEST} bytes; to reach something that was made under the long name, write the cut one."
        ),
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_name_the_server_would_cut_is_an_error() {
        let name = "é".repeat(32);
        assert!(
            on_live(&format!("create index \"{name}\" on t (a)"))
                .contains(&"blocking DDL_NAME_TOO_LONG".to_owned())
        );
        let name = "n".repeat(64);
        assert!(
            on_live(&format!("drop index if exists {name}"))
                .contains(&"blocking DDL_NAME_TOO_LONG".to_owned())
        );
        let told = on_live(&format!(
            "alter table t add column {} text default '{}'",
            "n".repeat(63),
            "x".repeat(100)
        ));
        assert!(told[0].starts_with("brief"), "{told:?}");
    }
}
