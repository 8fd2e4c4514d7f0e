//! Columns added to one table by statements that follow each other: one ALTER TABLE, so one lock instead of several.

use super::{
    parse::{NodeEnum, node::AlterTableType as Type},
    parts,
    source::{Span, Statement},
    statement::{Class, Online, Undo, Verify},
};

/// Joins neighbors that only add columns to the same table.
pub(super) fn columns(steps: &mut Vec<Online>) {
    let mut joined: Vec<Online> = Vec::with_capacity(steps.len());
    for step in steps.drain(..) {
        let both = joined.last().and_then(|last| together(last, &step));
        match (both, joined.last_mut()) {
            (Some(both), Some(last)) => *last = both,
            _ => joined.push(step),
        }
    }
    *steps = joined;
}

fn together(first: &Online, second: &Online) -> Option<Online> {
    let same_session = first.search_path == second.search_path && first.settings == second.settings;
    if first.class != Class::Brief || second.class != Class::Brief || !same_session {
        return None;
    }
    let recorded = |step: &Online| step.verify == Verify::Recorded { valid: None };
    // Cheap first: most steps are no ALTER TABLE.
    let target = |step: &Online| step.cost.locks.first().map(|lock| lock.relation.clone());
    let is_alter = |step: &Online| step.sql.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("alter"));
    if !recorded(first)
        || !recorded(second)
        || target(first) != target(second)
        || !is_alter(first)
        || !is_alter(second)
    {
        return None;
    }
    let (left, right) = (as_statement(first)?, as_statement(second)?);
    let (left, right) = (added(&left)?, added(&right)?);
    let mut both = first.clone();
    both.sql = format!("{} {}, {}", left.0, left.1.join(", "), right.1.join(", "));
    let rest = second.title.split_once(": ").map_or(second.title.as_str(), |(_, rest)| rest);
    both.title = format!("{}, {rest}", first.title);
    both.id = super::rules::slug(&both.title);
    for place in &second.from {
        if !both.from.contains(place) {
            both.from.push(place.clone());
        }
    }
    for lock in &second.cost.locks {
        if !both.cost.locks.contains(lock) {
            both.cost.locks.push(lock.clone());
        }
    }
    both.clients = first.clients.max(second.clients);
    both.undo = None::<Undo>;
    Some(both)
}

/// The head and the subcommands of an ALTER TABLE that only adds columns, with their defaults and unproved checks.
fn added(statement: &Statement) -> Option<(String, Vec<String>)> {
    let alter = parts::alter(statement)?;
    let adds = alter.commands.iter().any(|(_, tree)| tree.subtype() == Type::AtAddColumn);
    let fits = alter.commands.iter().all(|(_, tree)| match tree.subtype() {
        Type::AtAddColumn => true,
        Type::AtColumnDefault => tree.def.is_some() && adds,
        Type::AtAddConstraint => matches!(tree.def.as_ref().and_then(|def| def.node.as_ref()),
            Some(NodeEnum::Constraint(constraint)) if constraint.skip_validation && constraint.pktable.is_none()),
        _ => false,
    });
    let texts = alter.commands.iter().map(|(text, _)| (*text).to_owned()).collect();
    (adds && fits).then(|| (alter.head.to_owned(), texts))
}

fn as_statement(step: &Online) -> Option<Statement> {
    Some(Statement {
        sql: step.sql.clone(),
        comment: String::new(),
        span: Span { start: 0, end: step.sql.len() },
        place: step.from.first()?.clone(),
        tree: super::parse::parse_one(&step.sql).ok()?,
        search_path: step.search_path.clone(),
        settings: step.settings.clone(),
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn columns_of_one_table_come_under_one_lock() {
        assert_eq!(
            on_live(
                "begin; alter table t add column n int; alter table t add column m int check (m > 0), add column o text; alter table r add column n int; alter table t add column p int; commit"
            )[..4],
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n int, add column m int, add constraint \"t_m_check\" check (m > 0) not valid, add column o text",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_m_check\"",
                "brief, ACCESS EXCLUSIVE r: alter table r add column n int",
                "brief, ACCESS EXCLUSIVE t: alter table t add column p int",
            ]
        );
    }

    #[test]
    fn other_changes_are_not_drawn_together() {
        assert_eq!(on_live("alter table t add column n int; alter table t alter a set default 5; alter table t add column m int").len(), 3);
        assert_eq!(
            on_live("alter table t add column n int; alter table if exists t add column m int").len(),
            1
        );
    }
}
