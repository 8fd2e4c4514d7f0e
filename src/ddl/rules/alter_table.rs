//! ALTER TABLE whose every part is brief: runs as it is, in a transaction of its own, with a lock timeout and retries.
//!
//! What a part is, the rules beside this one say: [`add_column`], [`alter_column`], [`drop_column`], [`constraint`],
//! [`table_option`].

use super::{
    Outcome, Rule, add_column, alter_column, as_written, constraint, drop_column, table_option,
    unknown_relation,
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::{Class, Clients, Undo, Verify},
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
    /// Partitions are not touched.
    pub is_alone: bool,
    /// Locks on other tables.
    pub others: Vec<LockTaken>,
    /// Reads every row, under the lock of `mode`.
    pub scan: bool,
    /// Writes the table anew.
    pub rewrite: bool,
    /// Builds an index.
    pub build: bool,
    pub clients: Clients,
    /// What shows that it is done, when it is the only part.
    pub verify: Option<Verify>,
    /// How it is taken back, when it is the only part.
    pub undo: Option<Undo>,
    pub findings: Vec<Finding>,
}

impl Verdict {
    pub fn new(title: impl Into<String>, mode: LockMode) -> Verdict {
        Verdict {
            title: title.into(),
            mode,
            is_alone: false,
            others: Vec::new(),
            scan: false,
            rewrite: false,
            build: false,
            clients: Clients::Unaffected,
            verify: None,
            undo: None,
            findings: Vec::new(),
        }
    }

    pub fn brief(title: impl Into<String>, mode: LockMode) -> Option<Verdict> {
        Some(Verdict::new(title, mode))
    }
}

type PartRule = fn(&Part) -> Option<Verdict>;

const PART_RULES: &[PartRule] =
    &[add_column::part, alter_column::part, drop_column::part, constraint::part, table_option::part];

/// What an ALTER TABLE costs as it is written; `None` when some part of it is not known.
pub(in crate::ddl) fn cost(statement: &Statement, scene: &Scene) -> Option<Cost> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let range = alter.relation.as_ref()?;
    let relation = scene.range(range, &statement.search_path);
    let live = match scene.relation(&relation) {
        Known::Live(table) => Some(table),
        _ => None,
    };
    let verdicts = verdicts(statement, scene, &relation, live)?;
    Some(cost_of(scene, &relation, live.filter(|_| range.inh), &verdicts))
}

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "An ALTER TABLE whose every part is brief runs as it is, in a transaction of its own, with a short lock timeout and retries.",
    manual: "sql-altertable.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
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
    let verdicts = verdicts(statement, scene, &relation, live)?;
    Some(together(statement, scene, &relation, live.filter(|_| range.inh), verdicts))
}

fn verdicts(
    statement: &Statement,
    scene: &Scene,
    table: &TableName,
    live: Option<&Table>,
) -> Option<Vec<Verdict>> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let is_new = matches!(scene.relation(table), Known::New);
    let verdict = |command: &node::Node| {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        let part = Part { statement, scene, command, table, live, is_new };
        let mut verdict = PART_RULES.iter().find_map(|rule| rule(&part))?;
        if is_new {
            // Nobody waits for it, and it holds what these files put in.
            (verdict.scan, verdict.rewrite, verdict.build) = (false, false, false);
        }
        Some(verdict)
    };
    alter.cmds.iter().map(verdict).collect()
}

/// The strongest lock of all parts, on every partition too where a part reaches them, and all their work.
fn cost_of(
    scene: &Scene,
    relation: &TableName,
    with_partitions: Option<&Table>,
    verdicts: &[Verdict],
) -> Cost {
    let Some(mode) = verdicts.iter().map(|verdict| verdict.mode).max() else { return Cost::default() };
    let mut locks = vec![LockTaken { relation: relation.clone(), mode, role: LockRole::Target }];
    let below = verdicts.iter().filter(|verdict| !verdict.is_alone).map(|verdict| verdict.mode).max();
    let parted = with_partitions.filter(|table| table.kind == TableKind::Partitioned);
    if let (Some(table), Some(mode)) = (parted, below) {
        locks.extend(scene.all_partitions(&table.name).iter().map(|part| LockTaken {
            relation: part.name.clone(),
            mode,
            role: LockRole::Partition,
        }));
    }
    for lock in verdicts.iter().flat_map(|verdict| &verdict.others) {
        match locks.iter_mut().find(|known| known.relation == lock.relation) {
            Some(known) => known.mode = known.mode.max(lock.mode),
            None => locks.push(lock.clone()),
        }
    }
    let any = |work: fn(&Verdict) -> bool| verdicts.iter().any(work);
    Cost {
        locks,
        scan: any(|verdict| verdict.scan),
        rewrite: any(|verdict| verdict.rewrite),
        build: any(|verdict| verdict.build),
    }
}

/// The parts as one statement.
fn together(
    statement: &Statement,
    scene: &Scene,
    relation: &TableName,
    with_partitions: Option<&Table>,
    verdicts: Vec<Verdict>,
) -> Outcome {
    let cost = cost_of(scene, relation, with_partitions, &verdicts);
    if cost.works_while_others_wait() {
        let findings = vec![super::no_rule::finding(statement, scene)];
        return Outcome { steps: Vec::new(), findings };
    }
    let titles: Vec<&str> = verdicts.iter().map(|verdict| verdict.title.as_str()).collect();
    let title = format!("alter {}: {}", relation.plain(), titles.join(", "));
    let scan = cost.scan;
    let mut step = as_written(statement, RECIPE, title, cost);
    if scan {
        step.class = Class::Validate;
        step.why = "reads the rows beside readers and writers".into();
    } else {
        step.why = "only the catalog changes, under a lock held for a moment".into();
    }
    step.clients = verdicts.iter().map(|verdict| verdict.clients).max().unwrap_or_default();
    if let [only] = verdicts.as_slice() {
        step.verify = only.verify.clone().unwrap_or(step.verify);
        step.undo = only.undo.clone();
    }
    Outcome {
        steps: vec![step],
        findings: verdicts.into_iter().flat_map(|verdict| verdict.findings).collect(),
    }
}

/// What ATTACH locks when the index of a partition becomes a part of its parent's. Every query of the partition is planned with
/// a look at all its indexes, so the lock on one of them is told as one on the table.
pub(super) fn attach_index(parent: &TableName, partition: &TableName) -> Vec<LockTaken> {
    let lock = |relation: &TableName, mode, role| LockTaken { relation: relation.clone(), mode, role };
    vec![
        lock(parent, LockMode::ShareUpdateExclusive, LockRole::Table),
        lock(partition, LockMode::AccessExclusive, LockRole::Partition),
    ]
}

/// Measured: an index that becomes valid by its last part makes the server look whether the index above becomes valid too,
/// under ACCESS EXCLUSIVE on that one's table.
fn above(scene: &Scene, index: &TableName) -> Option<LockTaken> {
    let table = scene.index(index).map(|(table, _)| &table.name).or_else(|| scene.made_index(index))?;
    let Known::Live(table) = scene.relation(table) else { return None };
    let parent = scene.parent(table).filter(|_| scene.is_attached(index))?;
    Some(super::expand::exclusive(parent, LockRole::Parent))
}

/// ALTER INDEX … ATTACH PARTITION, SET (…), SET STATISTICS: only the catalog changes.
fn index_part(
    statement: &Statement,
    scene: &Scene,
    index: &TableName,
    commands: &[node::Node],
) -> Option<Outcome> {
    use node::AlterTableType as Type;
    let table_of = |index: &TableName| {
        let table = scene.index(index).map(|(table, _)| &table.name).or_else(|| scene.made_index(index));
        table.unwrap_or(index).clone()
    };
    let mode = LockMode::ShareUpdateExclusive;
    let mut locks = vec![LockTaken { relation: table_of(index), mode, role: LockRole::Table }];
    for command in commands {
        let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
        match (command.subtype(), command.def.as_ref().and_then(|def| def.node.as_ref())) {
            (Type::AtAttachPartition, Some(NodeEnum::PartitionCmd(part))) => {
                let part = scene.range(part.name.as_ref()?, &statement.search_path);
                locks = attach_index(&table_of(index), &table_of(&part));
                locks.extend(above(scene, index));
            }
            (Type::AtSetRelOptions | Type::AtResetRelOptions | Type::AtSetStatistics, _) => {}
            _ => return None,
        }
    }
    let title = format!("alter index {}", index.name.as_str());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
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
        assert_eq!(on_live("alter table p add column n int, alter a type bigint"), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn what_reads_or_builds_is_split_out_and_the_rest_stays_together() {
        assert_eq!(
            on_live(
                "alter table t add check (a > 0), add column n int, alter b set not null, alter a set default 5, add unique (a)"
            ),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n int, alter a set default 5",
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_check\" check (a > 0) NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_a_check\"",
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_b_nn_check\" check (\"b\" is not null) not valid",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_b_nn_check\"",
                "brief, ACCESS EXCLUSIVE t: alter table t alter b set not null",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" drop constraint \"t_b_nn_check\"",
                "concurrent, SHARE UPDATE EXCLUSIVE t: create unique index concurrently \"t_a_key\" on \"public\".\"t\" (\"a\")",
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_key\" unique using index \"t_a_key\"",
            ]
        );
    }

    #[test]
    fn what_rests_on_a_part_that_is_put_off_follows_it() {
        let told =
            on_live("alter table t alter a set not null, alter a add generated by default as identity");
        assert!(
            told.last().unwrap().ends_with("alter table t alter a add generated by default as identity"),
            "{told:#?}"
        );
        assert_eq!(told.len(), 5);
    }

    #[test]
    fn attaching_an_index_locks_it_and_so_its_table() {
        assert_eq!(
            told("alter index i attach partition j", None),
            ["brief, SHARE UPDATE EXCLUSIVE i + ACCESS EXCLUSIVE j: alter index i attach partition j"]
        );
    }

    #[test]
    fn the_last_part_of_an_attached_index_locks_the_table_above() {
        let told = on_live(
            "create index i on only p (b); create index si on only sub (b); create index concurrently s1i on sub1 (b);
             alter index si attach partition s1i; alter index i attach partition si",
        );
        assert_eq!(
            told[3..],
            [
                "brief, SHARE UPDATE EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: alter index si attach partition s1i",
                "brief, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE sub: alter index i attach partition si",
            ]
        );
        let told = on_live(
            "create index i on only p (b); create index si on only sub (b); create index concurrently s1i on sub1 (b);
             alter index i attach partition si; alter index si attach partition s1i",
        );
        assert_eq!(
            told[4],
            "brief, SHARE UPDATE EXCLUSIVE sub + ACCESS EXCLUSIVE sub1 + ACCESS EXCLUSIVE p: alter index si attach partition s1i"
        );
    }
}
