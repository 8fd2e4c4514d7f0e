//! DETACH PARTITION: CONCURRENTLY, which lets readers and writers of the table go on. The server has no such form beside a
//! DEFAULT partition; then both are locked for a moment.

use super::super::{
    Outcome, Rule, as_written, concurrently,
    drop_table::once,
    expand::{exclusive, referenced},
    info, unknown_relation, warning,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            NodeEnum,
            node::{self, AlterTableType},
        },
        scene::{Known, Scene},
        source::Statement,
        statement::{Online, Undo, Verify},
    },
    pg::name::TableName,
};

const RECIPE: &str = "detach_partition";

pub(in crate::ddl::rules) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A partition is detached CONCURRENTLY; beside a DEFAULT partition, where the server has no such form, under brief locks.",
    manual: "ddl-partitioning.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    let finalize = match command.subtype() {
        AlterTableType::AtDetachPartition => false,
        AlterTableType::AtDetachPartitionFinalize => true,
        _ => return None,
    };
    let Some(NodeEnum::PartitionCmd(part)) = command.def.as_ref()?.node.as_ref() else { return None };
    let parent = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let partition = scene.range(part.name.as_ref()?, &statement.search_path);
    for name in [&parent, &partition] {
        if matches!(scene.relation(name), Known::Missing) {
            return Outcome::finding(unknown_relation(statement, name));
        }
    }
    let detach = Detach { statement, scene, parent, partition };
    let step = match scene.default_partition(&detach.parent) {
        _ if finalize => detach.brief(LockMode::ShareUpdateExclusive, "ends a detaching that was interrupted"),
        Some(_) => detach.brief(
            LockMode::AccessExclusive,
            "the server refuses CONCURRENTLY beside a DEFAULT partition; nothing is read, so the lock is held for a moment",
        ),
        None => detach.concurrent(alter, part.concurrent)?,
    };
    Some(Outcome { steps: vec![step], findings: detach.findings() })
}

struct Detach<'a> {
    statement: &'a Statement,
    scene: &'a Scene<'a>,
    parent: TableName,
    partition: TableName,
}

impl Detach<'_> {
    fn title(&self) -> String {
        format!("detach {} from {}", self.partition.plain(), self.parent.plain())
    }

    fn locks(&self, on_parent: LockMode) -> Vec<LockTaken> {
        let lock = |relation: &TableName, mode, role| LockTaken { relation: relation.clone(), mode, role };
        let mut locks = vec![
            lock(&self.parent, on_parent, LockRole::Target),
            exclusive(&self.partition, LockRole::Partition),
        ];
        if on_parent == LockMode::AccessExclusive {
            let default = self.scene.default_partition(&self.parent);
            locks.extend(default.map(|default| exclusive(default, LockRole::Partition)));
        }
        // Its foreign keys become its own, with triggers of their own on the other tables.
        if let Known::Live(parent) = self.scene.relation(&self.parent) {
            let keys = self.scene.foreign_keys(&parent.name).into_iter();
            let mode = LockMode::ShareRowExclusive;
            locks.extend(keys.flat_map(|key| referenced(self.scene, &key.references, mode)));
        }
        once(locks)
    }

    fn brief(&self, on_parent: LockMode, why: &str) -> Online {
        let cost = Cost::brief(self.locks(on_parent));
        let mut step = as_written(self.statement, RECIPE, self.title(), cost);
        step.why = why.into();
        step.undo = self.again();
        step
    }

    fn concurrent(&self, alter: &node::AlterTableStmt, written_so: bool) -> Option<Online> {
        let mut wanted = alter.clone();
        if let Some(NodeEnum::AlterTableCmd(command)) = wanted.cmds.first_mut()?.node.as_mut()
            && let Some(NodeEnum::PartitionCmd(part)) = command.def.as_mut()?.node.as_mut()
        {
            part.concurrent = true;
        }
        let end = self.statement.sql.len();
        let edits = if written_so { Vec::new() } else { vec![Edit::insert(end, " CONCURRENTLY")] };
        let sql = edit::proved(&self.statement.sql, edits, &NodeEnum::AlterTableStmt(wanted))?;
        let cost = Cost::brief(self.locks(LockMode::ShareUpdateExclusive));
        let step = as_written(self.statement, RECIPE, self.title(), cost);
        let verify = Verify::Detached { parent: self.parent.clone(), partition: self.partition.clone() };
        let mut step = concurrently(step, sql, verify);
        step.was = (!written_so).then(|| Cost::brief(self.locks(LockMode::AccessExclusive)));
        step.why =
            "readers and writers of the table go on; the partition itself is locked for a moment at the end"
                .into();
        step.undo = self.again();
        Some(step)
    }

    fn again(&self) -> Option<Undo> {
        let bound = &self.scene.bound(&self.partition)?.bound;
        Some(Undo::Brief {
            sql: format!("alter table {} attach partition {} {bound}", self.parent, self.partition),
        })
    }

    fn findings(&self) -> Vec<crate::finding::Finding> {
        let mut findings = vec![warning(
            self.statement,
            "DDL_CLIENT_VISIBLE",
            format!(
                "the rows of {} are gone from {} for every client",
                self.partition.plain(),
                self.parent.plain()
            ),
            "Release clients that do not need them first.",
        )];
        let referring = self.scene.foreign_keys_to(&self.parent);
        if !referring.is_empty() {
            let tables: Vec<String> = referring.iter().map(|key| key.table.plain()).collect();
            findings.push(info(
                self.statement,
                "DDL_REFERENCED",
                format!("{} refer to {}: they are searched for rows that point into the partition, and the server refuses when there are any", tables.join(", "), self.parent.plain()),
                "Have an index on the referring columns, and delete such rows first.",
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn readers_and_writers_of_the_table_go_on() {
        assert_eq!(
            on_live("alter table p detach partition p1 -- gone"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE p1: alter table p detach partition p1 CONCURRENTLY",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
        assert_eq!(told("alter table p detach partition p1", None).len(), 2);
    }

    #[test]
    fn beside_a_default_partition_both_are_locked_for_a_moment() {
        for sql in ["alter table d detach partition d1", "alter table d detach partition dd"] {
            assert!(on_live(sql)[0].starts_with("brief, ACCESS EXCLUSIVE d + ACCESS EXCLUSIVE d"), "{sql}");
        }
    }

    #[test]
    fn an_interrupted_one_is_ended() {
        assert_eq!(
            on_live("alter table p detach partition p1 finalize")[0],
            "brief, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE p1: alter table p detach partition p1 finalize"
        );
    }
}
