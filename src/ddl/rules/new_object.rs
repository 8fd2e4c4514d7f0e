//! Statements on what an earlier statement of the same plan made: nobody uses it yet, so they run as they are.

use super::{Outcome, Rule, as_written, backfill::is_cut, blocking, expand::in_turn};
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
    if matches!(statement.tree, NodeEnum::LockStmt(_)) {
        // Nobody is there to be kept out.
        return relations(statement).iter().all(is_new).then(Outcome::default);
    }
    let (verb, names) = match &statement.tree {
        NodeEnum::IndexStmt(index) => {
            (if index.concurrent { return None } else { "create index on" }, relations(statement))
        }
        NodeEnum::AlterTableStmt(_) => ("alter", relations(statement)),
        NodeEnum::RenameStmt(_) => ("rename", relations(statement)),
        NodeEnum::InsertStmt(_) => ("insert into", relations(statement)),
        NodeEnum::UpdateStmt(_) => ("update", relations(statement)),
        NodeEnum::DeleteStmt(_) => ("delete from", relations(statement)),
        NodeEnum::MergeStmt(_) => ("merge into", relations(statement)),
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
        return rows_of_new(statement, scene, verb);
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

/// Rows of a new table, worked out from tables in use: nobody waits for it. Where it can be cut into batches it is (see
/// [`super::backfill`]), since one long snapshot keeps VACUUM from the dead rows of the whole database.
fn rows_of_new(statement: &Statement, scene: &Scene, verb: &str) -> Option<Outcome> {
    let named = |(schema, name): (String, String)| scene.resolve(&schema, &name, &statement.search_path);
    let mut written = parse::written(&statement.tree).into_iter().map(named);
    let target = written.next()?;
    if is_used(scene, &target) || written.any(|other| is_used(scene, &other)) {
        return None;
    }
    let is_missing = |table| matches!(scene.relation(&table), Known::Missing);
    if relations(statement).into_iter().map(named).any(is_missing) || is_cut(statement, scene) {
        return None;
    }
    let refers = scene.foreign_keys(&target).into_iter().find(|key| is_used(scene, &key.references));
    if let Some(key) = refers.filter(|_| !matches!(statement.tree, NodeEnum::DeleteStmt(_))) {
        return Outcome::finding(blocking(
            statement,
            "DDL_NO_RULE",
            format!(
                "{} refers to {}: every row referred to is locked against DELETE and changes of its key until all rows are written",
                target.plain(),
                key.references.plain()
            ),
            "Add the foreign key after the rows: it is made NOT VALID and then proved beside readers and writers. Or write the rows in small pieces.",
        ));
    }
    let locks = super::create_object::reads(statement, scene, &target);
    let title = format!("{verb} new {}", target.name.as_str());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why =
        "the table was made earlier in these files, so nobody waits; what it reads, it reads in one snapshot"
            .into();
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
    fn a_lock_on_a_new_table_is_left_out() {
        assert_eq!(on_live("create table n (a int); lock table n").len(), 1);
        assert_eq!(on_live("lock table t"), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn rows_of_a_new_table_are_worked_out_from_tables_in_use() {
        let made = "create table n (a int)";
        let joined = "insert into n select max(t.a) from t join r on t.a = r.id group by r.id";
        assert_eq!(
            on_live(&format!("{made}; {joined}"))[1..],
            [format!("catalog, ACCESS SHARE r + ACCESS SHARE t: {joined}")]
        );
        let with = "with x as (select max(a) from t) update n set a = 1 where a in (select * from x)";
        assert_eq!(on_live(&format!("{made}; {with}"))[1..], [format!("catalog, ACCESS SHARE t: {with}")]);
        let moved = "with x as (delete from t returning a) insert into n select a from x";
        assert_eq!(on_live(&format!("{made}; {moved}"))[1..], ["blocking DDL_NO_RULE"]);
        let refers = "create table n (a int references r (id))";
        assert_eq!(
            on_live(&format!("{refers}; {joined}")).last().map(String::as_str),
            Some("blocking DDL_NO_RULE")
        );
        let new = "with x as (select a from n) insert into m select a from x";
        assert_eq!(
            on_live(&format!("{made}; create table m (a int); {new}"))[2..],
            [format!("catalog, no lock: {new}")]
        );
    }

    #[test]
    fn between_new_tables_nobody_waits() {
        let made = "create table m (id int primary key); create table n (m_id int references m (id))";
        assert_eq!(on_live(&format!("{made}; drop table n"))[2..], ["catalog, no lock: drop table n"]);
    }
}
