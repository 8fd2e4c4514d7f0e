//! DROP CONSTRAINT c, ADD CONSTRAINT c: the new one is proved under another name before the old one goes.
//!
//! A key takes the old one's place in the very ALTER TABLE that drops it: its index was built before.

use super::{Answer, Pieces, Type, Whole, check_and_foreign_key::after_add, key, names};
use crate::{
    ddl::{
        parse::node::{self, ConstrType},
        parts,
        rules::index_name::with_suffix,
        scene::Rests,
    },
    facts::ConstraintKind,
    pg::name::Ident,
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let Some(constraint) = whole.added(at) else { return Answer::AsIs };
    let name = names::plain(constraint, &whole.table);
    let is_dropped =
        |tree: &node::AlterTableCmd| tree.subtype() == Type::AtDropConstraint && tree.name == name;
    let Some((_, dropped)) = whole.siblings(at).find(|(_, tree)| is_dropped(tree)) else {
        return Answer::AsIs;
    };
    let cascades = dropped.behavior() == node::DropBehavior::DropCascade;
    let interim = Ident::new(with_suffix(&name, "__new"));
    let name = Ident::new(name);
    match constraint.contype() {
        ConstrType::ConstrUnique | ConstrType::ConstrPrimary
            if constraint.indexname.is_empty() && !constraint.without_overlaps && !whole.is_partitioned() =>
        {
            if let Some(finding) = referred_to(whole, &name).filter(|_| !cascades) {
                return Answer::Refused(finding);
            }
            Answer::Pieces(key::with_index(whole, constraint, &name, &interim))
        }
        ConstrType::ConstrCheck | ConstrType::ConstrForeign => {
            let rest = parts::without_name(after_add(whole.text(at)));
            Answer::Pieces(Pieces {
                before: vec![whole.statement_of(&format!("add constraint {interim} {rest}"))],
                after: vec![whole.statement_of(&format!("rename constraint {interim} to {name}"))],
                ..Pieces::default()
            })
        }
        _ => Answer::AsIs,
    }
}

/// Foreign keys that rest on the key: the server refuses to drop it under them.
fn referred_to(whole: &Whole, name: &Ident) -> Option<crate::finding::Finding> {
    let resting = whole.scene.referring(&whole.table).into_iter();
    let resting: Vec<String> =
        resting.filter(|key| key.rests_on(name) == Rests::Yes).map(|key| key.plain()).collect();
    (!resting.is_empty()).then(|| {
        whole.finding(
            crate::finding::Severity::Blocking,
            "DDL_FAILS",
            format!("foreign keys rest on {} of {}: {}; the server refuses to drop it", name.as_str(), whole.table.plain(), resting.join(", ")),
            "Drop those foreign keys first (ALTER TABLE … DROP CONSTRAINT), and add them again after this statement.",
        )
    })
}

/// Whether a constraint of a kind can be the one a foreign key rests on.
pub(super) fn is_key_kind(kind: ConstraintKind) -> bool {
    matches!(kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique)
}
