//! Statements on what an earlier statement of the same plan made: nobody uses it yet, so they run as they are.

use super::{Outcome, Rule, as_written, expand::in_turn};
use crate::{
    ddl::{
        lock::Cost,
        parse::{
            self, NodeEnum,
            node::{AlterTableType, DropBehavior, DropStmt, ObjectType},
        },
        scene::{self, ForeignKey, Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "new_object";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What an earlier statement of the same plan made is nobody's yet, so it is changed as it is written.",
    manual: "sql-commands.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let is_new = |(schema, name): &(String, String)| {
        let relation = scene.resolve(schema, name, &statement.search_path);
        matches!(scene.relation(&relation), Known::New) || scene.is_new_index(&relation)
    };
    let (verb, names) = match &statement.tree {
        NodeEnum::IndexStmt(index) => {
            (if index.concurrent { return None } else { "create index on" }, relations(statement))
        }
        NodeEnum::AlterTableStmt(_) => ("alter", relations(statement)),
        NodeEnum::RenameStmt(_) => ("rename", relations(statement)),
        NodeEnum::InsertStmt(_) => ("insert into", relations(statement)),
        NodeEnum::UpdateStmt(_) => ("update", relations(statement)),
        NodeEnum::DeleteStmt(_) => ("delete from", relations(statement)),
        NodeEnum::TruncateStmt(_) => ("truncate", relations(statement)),
        NodeEnum::CreateTrigStmt(_) => ("create trigger on", relations(statement)),
        NodeEnum::AlterSeqStmt(_) => ("alter sequence", relations(statement)),
        NodeEnum::DropStmt(drop)
            if !drop.concurrent
                && matches!(drop.remove_type(), ObjectType::ObjectTable | ObjectType::ObjectIndex) =>
        {
            ("drop", scene::dropped_names(drop))
        }
        _ => return None,
    };
    if names.is_empty() || !names.iter().all(is_new) {
        return None;
    }
    if drops_key_in_use(statement, scene) {
        return None;
    }
    let falling = falling(statement, scene);
    if !falling.is_empty() {
        let mut sqls: Vec<String> = falling.iter().map(ForeignKey::dropped).collect();
        sqls.push(statement.sql.clone());
        return in_turn(statement, scene, RECIPE, &sqls);
    }
    let title = format!("{verb} new {}", names[0].1);
    let mut step = as_written(statement, RECIPE, title, Cost::default());
    step.why = "made earlier in these files, so nobody uses it yet".into();
    Outcome::step(step)
}

fn relations(statement: &Statement) -> Vec<(String, String)> {
    parse::relations(&statement.tree)
}

/// A subcommand of an ALTER TABLE.
struct Subcommand {
    kind: AlterTableType,
    /// What it names.
    name: String,
    cascades: bool,
}

/// The table of an ALTER TABLE, and its subcommands.
fn subcommands(statement: &Statement, scene: &Scene) -> Option<(TableName, Vec<Subcommand>)> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let table = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let commands = alter.cmds.iter().filter_map(|command| match &command.node {
        Some(NodeEnum::AlterTableCmd(command)) => Some(Subcommand {
            kind: command.subtype(),
            name: command.name.clone(),
            cascades: command.behavior() == DropBehavior::DropCascade,
        }),
        _ => None,
    });
    Some((table, commands.collect()))
}

fn is_used(scene: &Scene, table: &TableName) -> bool {
    !matches!(scene.relation(table), Known::New)
}

/// Whether DROP CONSTRAINT lets a foreign key fall that a table in use has or is referred to by, and so locks that table.
fn drops_key_in_use(statement: &Statement, scene: &Scene) -> bool {
    let Some((table, commands)) = subcommands(statement, scene) else { return false };
    let mut dropped = commands.iter().filter(|one| one.kind == AlterTableType::AtDropConstraint);
    let own = scene.foreign_keys(&table);
    dropped.any(|one| {
        own.iter().any(|key| key.name.as_str() == one.name && is_used(scene, &key.references))
            || one.cascades && scene.foreign_keys_to(&table).iter().any(|key| is_used(scene, &key.table))
    })
}

/// The foreign keys from and to tables in use that fall with a table or column: each goes before, in a transaction of its own.
fn falling(statement: &Statement, scene: &Scene) -> Vec<ForeignKey> {
    match &statement.tree {
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectTable => {
            of_tables(statement, scene, drop)
        }
        _ => of_columns(statement, scene).unwrap_or_default(),
    }
}

fn of_tables(statement: &Statement, scene: &Scene, drop: &DropStmt) -> Vec<ForeignKey> {
    let tables = scene.dropped(drop, &statement.search_path);
    let cascades = drop.behavior() == DropBehavior::DropCascade;
    let own = tables.iter().flat_map(|table| scene.foreign_keys(table));
    let own = own.filter(|key| is_used(scene, &key.references));
    let referring = tables.iter().filter(|_| cascades).flat_map(|table| scene.foreign_keys_to(table));
    own.chain(referring.filter(|key| is_used(scene, &key.table))).collect()
}

fn of_columns(statement: &Statement, scene: &Scene) -> Option<Vec<ForeignKey>> {
    let (table, commands) = subcommands(statement, scene)?;
    let drops = |column: &String, only_cascading: bool| {
        commands.iter().any(|one| {
            one.kind == AlterTableType::AtDropColumn
                && one.name == *column
                && (one.cascades || !only_cascading)
        })
    };
    let mut keys = scene.foreign_keys(&table);
    keys.retain(|key| {
        is_used(scene, &key.references) && key.columns().0.iter().any(|name| drops(name, false))
    });
    let mut referring = scene.foreign_keys_to(&table);
    referring
        .retain(|key| is_used(scene, &key.table) && key.columns().1.iter().any(|name| drops(name, true)));
    keys.extend(referring);
    Some(keys)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_foreign_key_to_a_table_in_use_locks_that_one_when_it_goes() {
        let made = "create table n (id int primary key, r_id int constraint k references r (id))";
        for (sql, then) in [
            ("alter table n drop constraint k", None),
            ("alter table n drop column r_id", Some("catalog, no lock: alter table n drop column r_id")),
            ("drop table n", Some("catalog, no lock: drop table n")),
        ] {
            let told = on_live(&format!("{made}; {sql}"));
            assert!(told[1].starts_with("brief, ACCESS EXCLUSIVE n + ACCESS EXCLUSIVE r: "), "{told:#?}");
            assert_eq!(told.get(2).map(String::as_str), then, "{told:#?}");
        }
        let told = on_live(&format!(
            "{made}; alter table t add constraint f foreign key (a) references n (id); drop table n cascade"
        ));
        assert!(told.iter().any(|line| line.ends_with("\"t\" drop constraint \"f\"")), "{told:#?}");
    }

    #[test]
    fn between_new_tables_nobody_waits() {
        let made = "create table m (id int primary key); create table n (m_id int references m (id))";
        assert_eq!(on_live(&format!("{made}; drop table n"))[2..], ["catalog, no lock: drop table n"]);
    }
}
