//! DROP CONSTRAINT … CASCADE of a key: each foreign key that rests on it goes in a statement of its own.

use super::{Answer, Pieces, Type, Whole, swap::is_key_kind};
use crate::{
    ddl::{
        parse::node::DropBehavior,
        scene::{ForeignKey, Rests},
    },
    pg::name::Ident,
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let command = whole.command(at);
    let cascades =
        command.subtype() == Type::AtDropConstraint && command.behavior() == DropBehavior::DropCascade;
    // Without a look nobody knows what falls with it.
    if !cascades || whole.live.is_none() {
        return Answer::AsIs;
    }
    let Some(known) = whole.scene.constraint(&whole.table, &command.name) else { return Answer::AsIs };
    let name = Ident::new(&command.name);
    // The index of a key has the key's name.
    let keys = whole.scene.referring(&whole.table);
    let is = |rests| move |key: &&ForeignKey| key.rests_on(&Ident::new(&command.name)) == rests;
    if let Some(key) = keys.iter().find(is(Rests::Perhaps)) {
        let what = format!(
            "the foreign key {} rests on {} or on another unique index of the same columns: before it runs it cannot be told whether it falls with it",
            key.plain(),
            command.name
        );
        return whole.refuse(
            "DDL_CASCADE",
            what,
            "Drop that foreign key in a statement of its own before, if it is to go.",
        );
    }
    let falls = keys.iter().filter(|_| is_key_kind(known.kind)).filter(is(Rests::Yes));
    let before = falls.map(ForeignKey::dropped).collect();
    let if_exists = if command.missing_ok { "if exists " } else { "" };
    let here = vec![format!("drop constraint {if_exists}{name}")];
    Answer::Pieces(Pieces { before, here, ..Pieces::default() })
}
