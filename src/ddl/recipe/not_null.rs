//! SET NOT NULL: a CHECK is added NOT VALID and validated; then the server needs no scan, and the CHECK goes in a statement of
//! its own, since in one ALTER TABLE it would be dropped first (measured on 12 to 18). From 18 on NOT NULL itself can be NOT VALID.

use super::{Answer, Pieces, Type, Whole, check_and_foreign_key::after_add};
use crate::{
    ddl::parse::{self, node::ConstrType},
    facts::ConstraintKind,
    pg::name::Ident,
};

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    match (whole.command(at).subtype(), whole.added(at)) {
        (Type::AtSetNotNull, _) => set(whole, at),
        (_, Some(constraint))
            if constraint.contype() == ConstrType::ConstrNotnull && !constraint.skip_validation =>
        {
            added(whole, at, constraint)
        }
        _ => Answer::AsIs,
    }
}

fn set(whole: &Whole, at: usize) -> Answer {
    let column = whole.command(at).name.as_str();
    let table = &whole.table;
    if whole.scene.is_not_null(table, column) {
        return Answer::AsIs;
    }
    let quoted = Ident::new(column);
    let validate = |name: &str| whole.statement_of(&format!("validate constraint {}", Ident::new(name)));
    match whole.scene.says_not_null(table, column) {
        Some((name, known)) if known.kind == ConstraintKind::NotNull => {
            Answer::Pieces(Pieces { after: vec![validate(&name)], ..Pieces::default() })
        }
        Some((name, known)) => {
            let dropped_here = whole
                .siblings(at)
                .any(|(_, tree)| tree.subtype() == Type::AtDropConstraint && tree.name == name);
            if known.validated && !dropped_here {
                return Answer::AsIs;
            }
            let mut before = if known.validated { Vec::new() } else { sweep(whole, column) };
            before.extend((!known.validated).then(|| validate(&name)));
            before.push(whole.statement_of(&format!("alter column {quoted} set not null")));
            Answer::Pieces(Pieces { before, ..Pieces::default() })
        }
        None if !whole.is_alone() => whole.later(at),
        None => proved(whole, at, column),
    }
}

/// The column is proved by a constraint of ours first.
fn proved(whole: &Whole, at: usize, column: &str) -> Answer {
    let quoted = Ident::new(column);
    let mut pieces = Pieces::default();
    if whole.scene.major().is_some_and(|major| major >= 18) && !whole.is_partitioned() {
        let name = whole.names.free(column, "not_null");
        pieces.here = vec![format!("add constraint {name} not null {quoted} not valid")];
        pieces.after = sweep(whole, column);
        pieces.after.push(whole.statement_of(&format!("validate constraint {name}")));
        return Answer::Pieces(pieces);
    }
    let name = whole.names.free(column, "nn_check");
    pieces.here = vec![format!("add constraint {name} check ({quoted} is not null) not valid")];
    pieces.after = sweep(whole, column);
    pieces.after.push(whole.statement_of(&format!("validate constraint {name}")));
    pieces.after.push(format!("{} {}", whole.alter.head, whole.text(at)));
    pieces.after.push(whole.statement_of(&format!("drop constraint {name}")));
    if whole.live.is_none() {
        let what = format!(
            "whether {}.{column} is NOT NULL already was not looked at; it is taken as nullable",
            whole.table.plain()
        );
        pieces.findings.push(whole.assumed(what));
    }
    Answer::Pieces(pieces)
}

/// What filled the column earlier in the plan, once more: rows written NULL while it ran, before the constraint bound new rows.
fn sweep(whole: &Whole, column: &str) -> Vec<String> {
    whole.scene.filled(&whole.table, column).map(str::to_owned).into_iter().collect()
}

/// ADD CONSTRAINT … NOT NULL of 18.
fn added(whole: &Whole, at: usize, constraint: &crate::ddl::parse::node::Constraint) -> Answer {
    let Some(column) = parse::strings(&constraint.keys).pop() else { return Answer::AsIs };
    if whole.scene.is_not_null(&whole.table, &column) {
        return Answer::AsIs;
    }
    if whole.scene.major().is_some_and(|major| major < 18) {
        return whole.refuse(
            "DDL_FAILS",
            format!(
                "ADD CONSTRAINT … NOT NULL exists from PostgreSQL 18 on, and {} is on an older server",
                whole.table.plain()
            ),
            "Write ALTER COLUMN … SET NOT NULL: it is made online.",
        );
    }
    if !whole.is_alone() {
        return whole.later(at);
    }
    let name = whole.names.of(constraint, None);
    let here = if constraint.conname.is_empty() {
        format!("add constraint {name} {} NOT VALID", after_add(whole.text(at)))
    } else {
        format!("{} NOT VALID", whole.text(at))
    };
    let mut after = sweep(whole, &column);
    after.push(whole.statement_of(&format!("validate constraint {name}")));
    Answer::Pieces(Pieces { here: vec![here], after, ..Pieces::default() })
}
