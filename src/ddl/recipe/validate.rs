//! VALIDATE CONSTRAINT beside other subcommands: alone it takes a lock nobody waits for, together it reads the rows under theirs.

use super::{Answer, Type, Whole};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let validates = whole.command(at).subtype() == Type::AtValidateConstraint;
    let stronger = whole.siblings(at).any(|(_, tree)| tree.subtype() != Type::AtValidateConstraint);
    if validates && stronger { whole.later(at) } else { Answer::AsIs }
}
