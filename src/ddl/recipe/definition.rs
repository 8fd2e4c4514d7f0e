//! Definitions of indexes and constraints as the server writes them, with another name for a column.

use crate::{
    ddl::parse::{self, node::Token as Kind},
    pg::name::Ident,
};

/// What stands between the two sides of a foreign key.
pub(super) const REFERENCES: &str = " REFERENCES ";

/// A foreign key to the second column; `None` when it is not to the old one.
pub(super) fn renamed_reference(
    definition: &str,
    column: &str,
    interim: &Ident,
) -> Result<Option<String>, String> {
    let unread = || format!("{definition} could not be read");
    let from = definition.find(REFERENCES).ok_or_else(unread)?;
    let open = definition[from..].find('(').map(|at| from + at + 1).ok_or_else(unread)?;
    let close = definition[open..].find(')').map(|at| open + at).ok_or_else(unread)?;
    let columns = renamed(&definition[open..close], column, interim)?;
    Ok(columns.map(|columns| format!("{}{columns}{}", &definition[..open], &definition[close..])))
}

/// What follows the table's name in a definition of an index.
pub(super) fn tail(definition: &str) -> Option<&str> {
    let tokens = parse::tokens(definition).ok()?;
    let using = tokens.iter().find(|token| token.kind == Kind::Using)?;
    definition.get(using.start..)
}

/// A definition as the server writes it, with another name for a column; `None` when the column is not in it.
///
/// Names are told from columns by what stands beside them: a function has a bracket after it, a type a `::` before it, an operator
/// class or collation the column itself. Such a name that is also the column's is not guessed at.
pub(super) fn renamed(definition: &str, column: &str, interim: &Ident) -> Result<Option<String>, String> {
    let tokens = parse::tokens(definition).map_err(|_| format!("{definition} could not be read"))?;
    let quoted = Ident::new(column).to_string();
    let mut text = definition.to_owned();
    let mut found = false;
    for (at, token) in tokens.iter().enumerate().rev() {
        let word = &definition[token.start..token.end];
        if word != quoted && word != column {
            continue;
        }
        let before = at.checked_sub(1).map(|at| tokens[at].kind);
        let stands_before = matches!(
            before,
            Some(
                Kind::Typecast | Kind::Collate | Kind::Ident | Kind::Ascii41 | Kind::Ascii46 | Kind::Ascii93
            )
        );
        let is_call = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Ascii40);
        if stands_before || is_call {
            return Err(format!("`{column}` means more than the column in: {definition}"));
        }
        text.replace_range(token.start..token.end, &interim.to_string());
        found = true;
    }
    Ok(found.then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_may_be_no_column_is_not_guessed_at() {
        let interim = Ident::new("n");
        let with = |definition: &str| renamed(definition, "text", &interim);
        assert_eq!(with("CHECK ((text > 'text'))").unwrap().unwrap(), "CHECK ((\"n\" > 'text'))");
        assert_eq!(with("CHECK ((a > 0))").unwrap(), None);
        for definition in ["CHECK (((a)::text > 'x'))", "USING btree (a text)", "CHECK ((text(a) > 0))"] {
            with(definition).unwrap_err();
        }
    }
}
