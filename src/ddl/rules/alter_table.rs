//! ALTER TABLE whose every part is brief: runs as it is, in a transaction of its own, with a lock timeout and retries.
//!
//! What a part is, the rules beside this one say: [`add_column`], [`alter_column`], [`drop_column`], [`constraint`],
//! [`table_option`].

use super::{
    Outcome, add_column, alter_column, as_written, blocking, constraint, drop_column, table_option,
    unknown_relation,
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::Class,
    },
    facts::{Table, TableKind},
    finding::Finding,
    pg::name::TableName,
};

const RECIPE: &str = "alter_table";

/// One part of an ALTER TABLE, with what it is about.
pub(super) struct Part<'a> {
    pub statement: &'a Statement,
    pub scene: &'a Scene<'a>,
    pub command: &'a node::AlterTableCmd,
    pub table: &'a TableName,
    pub live: Option<&'a Table>,
    /// The table was made by this plan.
    pub is_new: bool,
}

/// What a part does.
pub(super) struct Verdict {
    pub title: String,
    /// The lock on the altered table.
    pub mode: LockMode,
    /// Locks on other tables.
    pub others: Vec<LockTaken>,
    /// Reads every row, under the lock of `mode`.
    pub scan: bool,
    pub findings: Vec<Finding>,
}

impl Verdict {
    pub fn brief(title: impl Into<String>, mode: LockMode) -> Option<Verdict> {
        Some(Verdict { title: title.into(), mode, others: Vec::new(), scan: false, findings: Vec::new() })
    }
}

type PartRule = fn(&Part) -> Option<Verdict>;

const PART_RULES: &[PartRule] =
    &[add_column::part, alter_column::part, drop_column::part, constraint::part, table_option::part];

pub(super) fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let range = alter.relation.as_ref()?;
    let relation = scene.range(range, &statement.search_path);
    match alter.objtype() {
        node::ObjectType::ObjectTable => {}
        node::ObjectType::ObjectIndex => return index_part(statement, scene, &relation, &alter.cmds),
        _ => return None,
    }
    let known = scene.relation(&relation);
    let live = match known {
        Known::Live(table) => Some(table),
        Known::Missing if alter.missing_ok => None,
        Known::Missing => return Outcome::finding(unknown_relation(statement, &relation)),
        Known::LiveOther => return None,
        _ => None,
    };
    let mut verdicts = Vec::new();
    for command in &alter.cmds {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        let is_new = matches!(known, Known::New);
        let part = Part { statement, scene, command, table: &relation, live, is_new };
        verdicts.push(PART_RULES.iter().find_map(|rule| rule(&part))?);
    }
    Some(together(statement, scene, &relation, live.filter(|_| range.inh), verdicts))
}

/// The parts as one statement: the strongest lock of all, on every partition too.
fn together(
    statement: &Statement,
    scene: &Scene,
    relation: &TableName,
    with_partitions: Option<&Table>,
    verdicts: Vec<Verdict>,
) -> Outcome {
    let Some(mode) = verdicts.iter().map(|verdict| verdict.mode).max() else { return Outcome::default() };
    let mut locks = vec![LockTaken { relation: relation.clone(), mode, role: LockRole::Target }];
    if let Some(table) = with_partitions.filter(|table| table.kind == TableKind::Partitioned) {
        locks.extend(scene.all_partitions(&table.name).iter().map(|part| LockTaken {
            relation: part.name.clone(),
            mode,
            role: LockRole::Partition,
        }));
    }
    locks.extend(verdicts.iter().flat_map(|verdict| verdict.others.clone()));
    let titles: Vec<&str> = verdicts.iter().map(|verdict| verdict.title.as_str()).collect();
    let title = format!("alter {}: {}", relation.plain(), titles.join(", "));
    let scan = verdicts.iter().any(|verdict| verdict.scan);
    let cost = Cost { locks, scan, ..Cost::default() };
    if cost.works_while_others_wait() {
        let what = format!("{title}: the rows are read while others wait");
        let help = "Put VALIDATE CONSTRAINT in a statement of its own, after this one.";
        return Outcome { steps: Vec::new(), findings: vec![blocking(statement, "DDL_NO_RULE", what, help)] };
    }
    let mut step = as_written(statement, RECIPE, title, cost);
    if scan {
        step.class = Class::Validate;
        step.why = "reads the rows beside readers and writers".into();
    } else {
        step.why = "only the catalog changes, under a lock held for a moment".into();
    }
    Outcome {
        steps: vec![step],
        findings: verdicts.into_iter().flat_map(|verdict| verdict.findings).collect(),
    }
}

/// ALTER INDEX … ATTACH PARTITION, SET (…), SET STATISTICS: no lock that readers or writers wait for.
fn index_part(
    statement: &Statement,
    scene: &Scene,
    index: &TableName,
    commands: &[node::Node],
) -> Option<Outcome> {
    use node::AlterTableType as Type;
    let mut mode = LockMode::AccessShare;
    for command in commands {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        mode = mode.max(match command.subtype() {
            Type::AtAttachPartition => LockMode::AccessShare,
            Type::AtSetRelOptions | Type::AtResetRelOptions | Type::AtSetStatistics => {
                LockMode::ShareUpdateExclusive
            }
            _ => return None,
        });
    }
    let relation = scene.index(index).map_or_else(|| index.clone(), |(table, _)| table.name.clone());
    let lock = LockTaken { relation, mode, role: LockRole::Table };
    let title = format!("alter index {}", index.name.as_str());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(vec![lock]));
    step.why = "only the catalog changes".into();
    Outcome::step(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn the_strongest_lock_of_all_parts_counts() {
        assert_eq!(
            on_live("alter table t add column n int, alter a set statistics 100"),
            ["brief, ACCESS EXCLUSIVE t: alter table t add column n int, alter a set statistics 100"]
        );
        assert_eq!(
            on_live("alter table t alter a set statistics 100, set (fillfactor = 70)"),
            [
                "catalog, SHARE UPDATE EXCLUSIVE t: alter table t alter a set statistics 100, set (fillfactor = 70)"
            ]
        );
    }

    #[test]
    fn partitions_are_locked_with_their_parent() {
        assert_eq!(
            on_live("alter table p add column n int"),
            [
                "brief, ACCESS EXCLUSIVE p + ACCESS EXCLUSIVE p1 + ACCESS EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: alter table p add column n int"
            ]
        );
    }

    #[test]
    fn one_part_without_a_rule_stops_all() {
        assert_eq!(on_live("alter table t add column n int, alter a type bigint"), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn attaching_an_index_blocks_nobody() {
        assert_eq!(
            told("alter index i attach partition j", None),
            ["catalog, ACCESS SHARE i: alter index i attach partition j"]
        );
    }
}
