//! DROP CONSTRAINT … CASCADE of a key: each foreign key that rests on it goes in a statement of its own.

use super::{
    Answer, Pieces, Type, Whole,
    swap::{is_key_kind, referenced_columns, same_columns},
};
use crate::{ddl::parse::node::DropBehavior, pg::name::Ident};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let command = whole.command(at);
    let cascades =
        command.subtype() == Type::AtDropConstraint && command.behavior() == DropBehavior::DropCascade;
    // Without a look nobody knows what falls with it.
    if !cascades || whole.live.is_none() {
        return Answer::AsIs;
    }
    let Some(known) = whole.scene.constraint(&whole.table, &command.name) else { return Answer::AsIs };
    let columns = whole.scene.index_columns(&whole.table, &command.name).filter(|_| is_key_kind(known.kind));
    let rests = |definition: &str| match (&columns, referenced_columns(definition)) {
        (Some(columns), Some(referenced)) => same_columns(&referenced, columns),
        _ => false,
    };
    let before = whole
        .scene
        .referrers(&whole.table)
        .into_iter()
        .filter(|(_, _, definition)| rests(definition))
        .map(|(table, name, _)| format!("alter table {table} drop constraint {}", Ident::new(name)))
        .collect();
    let if_exists = if command.missing_ok { "if exists " } else { "" };
    let here = vec![format!("drop constraint {if_exists}{}", Ident::new(&command.name))];
    Answer::Pieces(Pieces { before, here, ..Pieces::default() })
}
