//! DROP COLUMN: a brief lock, and clients that still use the column fail.
//!
//! Measured: a foreign key that falls with it locks the other table as well, so it is dropped first, in a transaction of its own.

use super::{
    Outcome, Rule,
    alter_table::{Part, Verdict},
    drop_table::drop_view,
    expand::{cascade_unseen, exclusive, fails, in_turn, instead_of, listed},
    warning,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole},
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType, DropBehavior, ObjectType},
        },
        scene::{ForeignKey, Known, Scene},
        source::Statement,
    },
    facts::Table,
    pg::name::TableName,
};

const RECIPE: &str = "drop_column";

/// DROP COLUMN with a foreign key over it, or CASCADE: what falls with the column first, one by one, then the column alone.
pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What falls with a column goes first, one by one, so that no other table is locked with it; clients that still use the column fail.",
    manual: "sql-altertable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    if alter.objtype() != ObjectType::ObjectTable {
        return None;
    }
    let parts: Vec<&node::AlterTableCmd> = alter
        .cmds
        .iter()
        .filter_map(|command| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(&**command),
            _ => None,
        })
        .collect();
    let is_drop = |part: &&&node::AlterTableCmd| part.subtype() == AlterTableType::AtDropColumn;
    let cascades = |part: &&node::AlterTableCmd| part.behavior() == DropBehavior::DropCascade;
    let others_cascade = parts.iter().any(|part| !is_drop(&part) && cascades(part));
    if !parts.iter().any(|part| is_drop(&part)) || others_cascade {
        return None;
    }
    let cascade = parts.iter().any(cascades);
    let name = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let table = match scene.relation(&name) {
        Known::Live(table) => table,
        Known::Unseen if cascade => return cascade_unseen(statement, "DROP COLUMN"),
        _ => return None,
    };
    let falling = Falling { scene, table };
    let mut sqls: Vec<String> = Vec::new();
    for part in parts.iter().filter(is_drop) {
        if !cascades(part)
            && let Some(refused) = falling.refused(statement, &part.name)
        {
            return Some(refused);
        }
        for sql in falling.before(&part.name) {
            if !sqls.contains(&sql) {
                sqls.push(sql);
            }
        }
    }
    if sqls.is_empty() && !cascade {
        return None;
    }
    sqls.push(without_cascade(statement, alter)?);
    let locks =
        [name].into_iter().chain(falling.others(&parts)).map(|other| exclusive(&other, LockRole::Target));
    instead_of(in_turn(statement, scene, RECIPE, &sqls), Cost::brief(locks.collect()))
}

/// The operator's text without CASCADE.
fn without_cascade(statement: &Statement, alter: &node::AlterTableStmt) -> Option<String> {
    let tokens = parse::tokens(&statement.sql).ok()?;
    let words = tokens.iter().filter(|token| token.kind == node::Token::Cascade);
    let edits = words.map(|token| Edit::replace(*token, "")).collect();
    let mut wanted = alter.clone();
    for command in &mut wanted.cmds {
        if let Some(NodeEnum::AlterTableCmd(command)) = &mut command.node {
            command.set_behavior(DropBehavior::DropRestrict);
        }
    }
    edit::proved(&statement.sql, edits, &NodeEnum::AlterTableStmt(wanted))
        .map(|sql| sql.trim_end().to_owned())
}

/// A table in use that loses a column.
struct Falling<'a> {
    scene: &'a Scene<'a>,
    table: &'a Table,
}

impl Falling<'_> {
    /// Foreign keys of the table over the column.
    fn own_keys(&self, column: &str) -> Vec<ForeignKey> {
        let mut keys = self.scene.foreign_keys(&self.table.name);
        keys.retain(|key| key.columns().0.iter().any(|name| name == column));
        keys
    }

    /// Foreign keys of other tables that refer to the column.
    fn keys_to(&self, column: &str) -> Vec<ForeignKey> {
        let mut keys = self.scene.foreign_keys_to(&self.table.name);
        keys.retain(|key| key.columns().1.iter().any(|name| name == column));
        keys
    }

    fn refused(&self, statement: &Statement, column: &str) -> Option<Outcome> {
        let views = self.scene.views_on(&self.table.name, Some(column));
        let views = views.iter().map(|view| view.name.plain());
        let keys = self.keys_to(column);
        let keys = keys.iter().map(ForeignKey::plain);
        let dependants: Vec<String> = views.chain(keys).collect();
        if dependants.is_empty() {
            return None;
        }
        let what = format!(
            "the server refuses to drop column {column} of {}: {} need it",
            self.table.name.plain(),
            listed(dependants)
        );
        fails(
            statement,
            what,
            "Drop those first, one statement each; a view can be made again without the column right after.",
        )
    }

    fn before(&self, column: &str) -> Vec<String> {
        let views = self.scene.views_on(&self.table.name, Some(column)).into_iter().map(drop_view);
        let keys = self.keys_to(column).into_iter().chain(self.own_keys(column));
        views.chain(keys.map(|key| key.dropped())).collect()
    }

    /// Other tables that are locked when all is done at once.
    fn others(&self, parts: &[&node::AlterTableCmd]) -> Vec<TableName> {
        let mut tables: Vec<TableName> = Vec::new();
        for part in parts {
            tables.extend(self.own_keys(&part.name).into_iter().map(|key| key.references));
            tables.extend(self.keys_to(&part.name).into_iter().map(|key| key.table));
        }
        tables.sort();
        tables.dedup();
        tables.retain(|table| *table != self.table.name);
        tables
    }
}

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let command = part.command;
    // CASCADE that could not be written out: no rule.
    if command.subtype() != AlterTableType::AtDropColumn || command.behavior() == DropBehavior::DropCascade {
        return None;
    }
    let mut verdict = Verdict::brief(format!("drop column {}", command.name), LockMode::AccessExclusive)?;
    verdict.findings.push(warning(
        part.statement,
        "DDL_CLIENT_VISIBLE",
        format!("column {} of {} is gone for every client that still uses it", command.name, part.table.plain()),
        "Release clients that do not use it first; statements prepared with SELECT * fail once and must be prepared again.",
    ));
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn a_foreign_key_over_it_falls_first() {
        assert_eq!(
            on_live("alter table t drop column b"),
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table \"public\".\"t\" drop constraint \"t_r_fk\"",
                "brief, ACCESS EXCLUSIVE t: alter table t drop column b",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
        assert_eq!(
            on_live("alter table t drop column a")[0],
            "brief, ACCESS EXCLUSIVE t: alter table t drop column a"
        );
        assert_eq!(on_live("alter table t drop constraint t_r_fk; alter table t drop column b").len(), 3);
    }

    #[test]
    fn cascade_is_written_out() {
        assert_eq!(on_live("alter table r drop column id"), ["blocking DDL_FAILS"]);
        assert_eq!(on_live("alter table s drop column a"), ["blocking DDL_FAILS"]);
        assert_eq!(
            on_live("alter table r drop column id cascade, add column n int")[..2],
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table \"public\".\"t\" drop constraint \"t_r_fk\"",
                "brief, ACCESS EXCLUSIVE r: alter table r drop column id , add column n int",
            ]
        );
        assert!(on_live("alter table s drop column a cascade")[0].contains("drop materialized view"));
        assert_eq!(told("alter table r drop column id cascade", None), ["blocking DDL_CASCADE"]);
    }
}
