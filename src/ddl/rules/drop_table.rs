//! DROP TABLE: its foreign keys first, one by one, so that no other table is locked with it; a partition is detached before.
//!
//! Measured: dropping a table takes ACCESS EXCLUSIVE on every table its foreign keys refer to, and on a partition's parent.

use super::{
    Outcome, Rule, as_written,
    expand::{cascade_unseen, exclusive, fails, in_turn, instead_of, listed},
    info, unknown_relation, warning,
};
use crate::{
    ddl::{
        lock::{Cost, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{self, DropBehavior, ObjectType},
        },
        scene::{ForeignKey, Known, Scene},
        source::Statement,
    },
    facts::{Table, View},
    pg::name::TableName,
};

const RECIPE: &str = "drop_table";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "The foreign keys of a table go first, one by one, and a partition is detached, so that no other table is locked with it.",
    manual: "sql-droptable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::DropStmt(drop) = &statement.tree else { return None };
    if !matches!(drop.remove_type(), ObjectType::ObjectTable | ObjectType::ObjectForeignTable) {
        return None;
    }
    let cascade = drop.behavior() == DropBehavior::DropCascade;
    if cascade && !scene.looked() {
        return cascade_unseen(statement, "DROP TABLE");
    }
    let names = scene.dropped(drop, &statement.search_path);
    let mut sqls: Vec<String> = Vec::new();
    for name in &names {
        let Known::Live(table) = scene.relation(name) else { continue };
        let falling = Falling { scene, table, names: &names };
        if !cascade && let Some(refused) = falling.refused(statement) {
            return Some(refused);
        }
        for sql in falling.before() {
            if !sqls.contains(&sql) {
                sqls.push(sql);
            }
        }
    }
    let [only] = names.as_slice() else {
        sqls.extend(names.iter().map(|name| dropping(drop, name)));
        return in_turn(statement, scene, RECIPE, &sqls);
    };
    if sqls.is_empty() && !cascade {
        return one(statement, scene, drop, only);
    }
    let was = cost(scene, only);
    sqls.push(dropping(drop, only));
    instead_of(in_turn(statement, scene, RECIPE, &sqls), was)
}

fn dropping(drop: &node::DropStmt, name: &TableName) -> String {
    let kind = if drop.remove_type() == ObjectType::ObjectForeignTable { "foreign table" } else { "table" };
    let if_exists = if drop.missing_ok { "if exists " } else { "" };
    format!("drop {kind} {if_exists}{name}")
}

/// A table in use that is to be dropped, with those named beside it.
struct Falling<'a> {
    scene: &'a Scene<'a>,
    table: &'a Table,
    names: &'a [TableName],
}

impl Falling<'_> {
    /// What the server refuses without CASCADE.
    fn refused(&self, statement: &Statement) -> Option<Outcome> {
        let name = self.table.name.plain();
        let keys: Vec<String> = self
            .scene
            .foreign_keys_to(&self.table.name)
            .iter()
            .filter(|key| !self.names.contains(&key.table))
            .map(ForeignKey::plain)
            .collect();
        if !keys.is_empty() {
            return fails(
                statement,
                format!("the server refuses to drop {name}: the foreign keys {} refer to it", listed(keys)),
                "Drop those foreign keys first: ALTER TABLE … DROP CONSTRAINT, one statement each.",
            );
        }
        let views = self.scene.views_on(&self.table.name, None);
        if !views.is_empty() {
            let views = listed(views.iter().map(|view| view.name.plain()));
            return fails(
                statement,
                format!("the server refuses to drop {name}: {views} read it"),
                "Drop those views first, one statement each.",
            );
        }
        None
    }

    /// What is done before, each in a transaction of its own.
    fn before(&self) -> Vec<String> {
        let name = &self.table.name;
        let views = self.scene.views_on(name, None);
        let mut sqls: Vec<String> = views.into_iter().map(drop_view).collect();
        sqls.extend(self.scene.foreign_keys_to(name).iter().map(ForeignKey::dropped));
        let parent = self.scene.parent(self.table).filter(|parent| !self.names.contains(parent));
        let detached = parent.filter(|parent| self.scene.default_partition(parent).is_none());
        if let Some(parent) = detached {
            sqls.push(format!("alter table {parent} detach partition {name} concurrently"));
        }
        // After the detaching its foreign keys are its own, and fall one by one.
        let own = match detached {
            Some(_) => self.scene.every_foreign_key(name),
            None => self.scene.foreign_keys(name),
        };
        sqls.extend(own.iter().filter(|key| key.references != *name).map(ForeignKey::dropped));
        sqls
    }
}

/// The statement that drops a view.
pub(super) fn drop_view(view: &View) -> String {
    let kind = if view.materialized { "materialized view" } else { "view" };
    format!("drop {kind} {}", view.name)
}

/// The locks of one DROP TABLE in a scene.
fn cost(scene: &Scene, name: &TableName) -> Cost {
    let mut locks = vec![exclusive(name, LockRole::Target)];
    if let Known::Live(table) = scene.relation(name) {
        locks
            .extend(scene.all_partitions(name).iter().map(|part| exclusive(&part.name, LockRole::Partition)));
        if let Some(parent) = scene.parent(table) {
            locks.push(exclusive(parent, LockRole::Parent));
            let default = scene.default_partition(parent).filter(|default| *default != name);
            locks.extend(default.map(|default| exclusive(default, LockRole::Partition)));
        }
        // What a partition has from its parent has no triggers of its own on the other table.
        let own = scene.foreign_keys(name).into_iter().filter(|key| key.references != *name);
        locks.extend(own.map(|key| exclusive(&key.references, LockRole::Referenced)));
        let referring = scene.foreign_keys_to(name);
        locks.extend(referring.iter().map(|key| exclusive(&key.table, LockRole::Referenced)));
    }
    Cost::brief(once(locks))
}

/// Each relation once.
pub(in crate::ddl) fn once(locks: Vec<LockTaken>) -> Vec<LockTaken> {
    let mut kept: Vec<LockTaken> = Vec::new();
    for lock in locks {
        if !kept.iter().any(|seen| seen.relation == lock.relation && seen.mode >= lock.mode) {
            kept.push(lock);
        }
    }
    kept
}

fn one(statement: &Statement, scene: &Scene, drop: &node::DropStmt, name: &TableName) -> Option<Outcome> {
    let title = format!("drop table {}", name.plain());
    let mut findings = Vec::new();
    let cost = match scene.relation(name) {
        Known::Missing if !drop.missing_ok => return Outcome::finding(unknown_relation(statement, name)),
        Known::Missing | Known::New => Cost::default(),
        known => {
            findings.push(warning(
                statement,
                "DDL_CLIENT_VISIBLE",
                format!("{} and its rows are gone for every client that still uses it", name.plain()),
                "Release clients that do not use it first; keep a copy of the rows if they may be wanted again.",
            ));
            if matches!(known, Known::Unseen) {
                findings.push(info(
                    statement,
                    "DDL_UNSEEN",
                    format!("the foreign keys of {} cannot be seen: the tables they refer to would be locked with it", name.plain()),
                    "Plan with the database: then each foreign key is dropped first, in a transaction of its own.",
                ));
            }
            cost(scene, name)
        }
    };
    let mut step = as_written(statement, RECIPE, title, cost);
    step.why = "only the catalog changes; the lock is held for a moment".into();
    Some(Outcome { steps: vec![step], findings })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn its_foreign_keys_fall_first_so_that_the_other_table_is_not_locked_with_it() {
        assert_eq!(
            on_live("drop table t"),
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table \"public\".\"t\" drop constraint \"t_r_fk\"",
                "brief, ACCESS EXCLUSIVE t: drop table \"public\".\"t\"",
                "warning DDL_CLIENT_VISIBLE",
            ]
        );
    }

    #[test]
    fn cascade_is_written_out_and_without_it_the_server_would_refuse() {
        assert_eq!(on_live("drop table r"), ["blocking DDL_FAILS"]);
        assert_eq!(
            on_live("drop table if exists r cascade")[..2],
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table \"public\".\"t\" drop constraint \"t_r_fk\"",
                "brief, ACCESS EXCLUSIVE r: drop table if exists \"public\".\"r\"",
            ]
        );
        assert_eq!(told("drop table r cascade", None), ["blocking DDL_CASCADE"]);
        assert_eq!(on_live("drop table r, t").len(), 5);
    }

    #[test]
    fn a_view_that_was_made_again_reads_what_it_reads_now() {
        let others = "drop materialized view mv, bare; drop view w, v";
        let told = on_live(&format!("{others}; create view v as select 1; drop table s"));
        assert!(told.iter().any(|line| line.ends_with(": drop table s")), "{told:#?}");
    }

    #[test]
    fn a_partition_is_detached_first() {
        assert_eq!(
            on_live("drop table p1"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE p1: alter table \"public\".\"p\" detach partition \"public\".\"p1\" concurrently",
                "brief, ACCESS EXCLUSIVE p1: drop table \"public\".\"p1\"",
                "warning DDL_CLIENT_VISIBLE",
                "warning DDL_CLIENT_VISIBLE",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(on_live("drop table nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
        assert_eq!(
            on_live("drop table if exists nowhere"),
            ["catalog, no lock: drop table if exists nowhere"]
        );
        assert_eq!(
            told("drop table t", None),
            ["brief, ACCESS EXCLUSIVE t: drop table t", "warning DDL_CLIENT_VISIBLE", "info DDL_UNSEEN"]
        );
    }
}
