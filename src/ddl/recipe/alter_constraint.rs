//! ALTER CONSTRAINT … ENFORCED (18) reads both tables under ACCESS EXCLUSIVE: a second constraint is proved and takes its place.

use super::{Answer, Pieces, Type, Whole};
use crate::{
    ddl::{parse::NodeEnum, rules::index_name::with_suffix},
    pg::name::Ident,
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let command = whole.command(at);
    let Some(NodeEnum::AtalterConstraint(change)) = command.def.as_ref().and_then(|def| def.node.as_ref())
    else {
        return Answer::AsIs;
    };
    if command.subtype() != Type::AtAlterConstraint || !change.alter_enforceability || !change.is_enforced {
        return Answer::AsIs;
    }
    let known = whole.scene.constraint(&whole.table, &change.conname);
    let definition = known.as_ref().and_then(|known| known.definition.as_deref());
    let Some(definition) =
        definition.and_then(|text| text.strip_suffix(" NOT ENFORCED")).filter(|_| whole.is_alone())
    else {
        return Answer::AsIs;
    };
    let interim = Ident::new(with_suffix(&change.conname, "__new"));
    let name = Ident::new(&change.conname);
    Answer::Pieces(Pieces {
        before: vec![whole.statement_of(&format!("add constraint {interim} {definition}"))],
        here: vec![format!("drop constraint {name}")],
        after: vec![whole.statement_of(&format!("rename constraint {interim} to {name}"))],
        ..Pieces::default()
    })
}
