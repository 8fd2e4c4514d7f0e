//! The parts of an ALTER TABLE as the operator wrote them: its head, its subcommands, and the clauses of a column.

use super::{
    parse::{self, NodeEnum, Token, node},
    source::Statement,
};
use node::{ConstrType, Token as Kind};

/// An ALTER TABLE, cut.
#[derive(Debug)]
pub(super) struct Alter<'a> {
    /// `alter table if exists only app.t`.
    pub head: &'a str,
    /// The subcommands, each with its tree.
    pub commands: Vec<(&'a str, &'a node::AlterTableCmd)>,
    /// The whole tree.
    pub tree: &'a node::AlterTableStmt,
}

/// The kinds of the constraints written with a column.
pub(super) fn constraint_types(column: &node::ColumnDef) -> Vec<ConstrType> {
    let kind = |item: &node::Node| match &item.node {
        Some(NodeEnum::Constraint(constraint)) => Some(constraint.contype()),
        _ => None,
    };
    column.constraints.iter().filter_map(kind).collect()
}

/// Cuts an ALTER TABLE on a table; `None` for anything else.
pub(super) fn alter(statement: &Statement) -> Option<Alter<'_>> {
    let NodeEnum::AlterTableStmt(tree) = &statement.tree else { return None };
    if tree.objtype() != node::ObjectType::ObjectTable {
        return None;
    }
    let sql = &statement.sql;
    let tokens = parse::tokens(sql).ok()?;
    let first = relation_end(&tokens)?;
    let head = &sql[..tokens.get(first.checked_sub(1)?)?.end];
    let texts: Vec<&str> = split(&tokens[first..])
        .into_iter()
        .map(|part| Some(&sql[part.first()?.start..part.last()?.end]))
        .collect::<Option<_>>()?;
    let trees: Vec<&node::AlterTableCmd> = tree
        .cmds
        .iter()
        .map(|command| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(&**command),
            _ => None,
        })
        .collect::<Option<_>>()?;
    (texts.len() == trees.len()).then(|| Alter {
        head,
        commands: texts.into_iter().zip(trees).collect(),
        tree,
    })
}

/// The token after `ALTER TABLE [IF EXISTS] [ONLY] a.b [*]`.
fn relation_end(tokens: &[Token]) -> Option<usize> {
    let mut at = 2;
    while matches!(tokens.get(at)?.kind, Kind::IfP | Kind::Exists | Kind::Only | Kind::Ascii40) {
        at += 1;
    }
    at += 1;
    while tokens.get(at)?.kind == Kind::Ascii46 {
        at += 2;
    }
    while matches!(tokens.get(at)?.kind, Kind::Ascii42 | Kind::Ascii41) {
        at += 1;
    }
    Some(at)
}

/// Cut at the commas that are in no brackets.
pub(super) fn split(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_i32;
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Ascii40 | Kind::Ascii91 => depth += 1,
            Kind::Ascii41 | Kind::Ascii93 => depth -= 1,
            Kind::Ascii44 if depth == 0 => {
                parts.push(&tokens[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[from..]);
    parts
}

/// A clause of a column: `not null`, `constraint k check (…)`, with its attributes (`deferrable`).
#[derive(Debug, Clone)]
pub(super) struct Clause {
    /// Its kind.
    pub kind: ConstrType,
    /// Its tree.
    pub tree: node::Constraint,
    /// As written, without `constraint k`.
    pub text: String,
    /// `deferrable initially deferred` and the like, as written.
    pub attributes: String,
}

/// The column of an ADD COLUMN, cut.
#[derive(Debug)]
pub(super) struct ColumnText {
    /// `add column if not exists n int collate "C"`: all that is no constraint.
    pub bare: String,
    /// The name.
    pub name: String,
    /// The type as written.
    pub type_text: String,
    /// The constraints, in order.
    pub clauses: Vec<Clause>,
}

impl ColumnText {
    /// The first clause of a kind.
    pub fn clause(&self, kind: ConstrType) -> Option<&Clause> {
        self.clauses.iter().find(|clause| clause.kind == kind)
    }
}

/// Cuts `add column …`.
pub(super) fn column(command: &str) -> Option<ColumnText> {
    const HEAD: &str = "alter table t ";
    let sql = format!("{HEAD}{command}");
    let NodeEnum::AlterTableStmt(alter) = parse::parse_one(&sql).ok()? else { return None };
    let [node::Node { node: Some(NodeEnum::AlterTableCmd(tree)) }] = alter.cmds.as_slice() else {
        return None;
    };
    let Some(NodeEnum::ColumnDef(column)) = tree.def.as_ref()?.node.as_ref() else { return None };
    let start = |location: i32| usize::try_from(location).ok();
    let mut starts: Vec<(usize, Option<&node::Constraint>)> = Vec::new();
    for item in &column.constraints {
        let Some(NodeEnum::Constraint(constraint)) = &item.node else { return None };
        starts.push((start(constraint.location)?, Some(constraint)));
    }
    if let Some(collation) = &column.coll_clause {
        starts.push((start(collation.location)?, None));
    }
    starts.sort_by_key(|(at, _)| *at);
    let first = starts.first().map_or(sql.len(), |(at, _)| *at);
    let type_start = start(column.type_name.as_ref()?.location)?;
    let mut cut = ColumnText {
        bare: sql[HEAD.len()..first].trim_end().to_owned(),
        name: column.colname.clone(),
        type_text: sql[type_start..first].trim_end().to_owned(),
        clauses: Vec::new(),
    };
    for (nth, (at, constraint)) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).map_or(sql.len(), |(next, _)| *next);
        let text = sql[*at..end].trim_end();
        let Some(constraint) = constraint else {
            cut.bare = format!("{} {text}", cut.bare);
            continue;
        };
        match constraint.contype() {
            ConstrType::ConstrAttrDeferrable
            | ConstrType::ConstrAttrNotDeferrable
            | ConstrType::ConstrAttrDeferred
            | ConstrType::ConstrAttrImmediate
            | ConstrType::ConstrAttrEnforced
            | ConstrType::ConstrAttrNotEnforced => {
                let clause = cut.clauses.last_mut()?;
                clause.attributes = format!("{} {text}", clause.attributes);
            }
            kind => cut.clauses.push(Clause {
                kind,
                tree: (*constraint).clone(),
                text: without_name(text),
                attributes: String::new(),
            }),
        }
    }
    Some(cut)
}

/// A constraint without its `constraint k`.
pub(super) fn without_name(text: &str) -> String {
    match parse::tokens(text).as_deref() {
        Ok([constraint, _, first, ..]) if constraint.kind == Kind::Constraint => {
            text[first.start..].to_owned()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Place;

    fn statement(sql: &str) -> Statement {
        Statement {
            sql: sql.into(),
            comment: String::new(),
            span: crate::ddl::source::Span { start: 0, end: sql.len() },
            place: Place::Plan { field: String::new() },
            tree: parse::parse_one(sql).unwrap(),
            search_path: Vec::new(),
            settings: crate::ddl::Settings::default(),
        }
    }

    #[test]
    fn subcommands_are_cut_at_their_commas_only() {
        let statement = statement(
            "alter table /* x */ if exists only app.\"T\" add column n numeric(10, 2) default f(1, 2), alter a set default array[1, 2], add unique (a, b)",
        );
        let alter = alter(&statement).unwrap();
        assert_eq!(alter.head, "alter table /* x */ if exists only app.\"T\"");
        let texts: Vec<&str> = alter.commands.iter().map(|(text, _)| *text).collect();
        assert_eq!(
            texts,
            [
                "add column n numeric(10, 2) default f(1, 2)",
                "alter a set default array[1, 2]",
                "add unique (a, b)"
            ]
        );
    }

    #[test]
    fn a_column_is_cut_into_its_clauses() {
        let column = column(
            "add column if not exists n varchar(10) not null collate \"C\" constraint k references r (id) on delete cascade deferrable initially deferred default 'x, y' check (n <> 'a')",
        )
        .unwrap();
        assert_eq!(column.bare, "add column if not exists n varchar(10) collate \"C\"");
        assert_eq!(column.type_text, "varchar(10)");
        let clauses: Vec<(&str, &str)> =
            column.clauses.iter().map(|clause| (clause.text.as_str(), clause.attributes.as_str())).collect();
        assert_eq!(
            clauses,
            [
                ("not null", ""),
                ("references r (id) on delete cascade", " deferrable initially deferred"),
                ("default 'x, y'", ""),
                ("check (n <> 'a')", "")
            ]
        );
        assert_eq!(column.clauses[1].tree.conname, "k");
    }
}
