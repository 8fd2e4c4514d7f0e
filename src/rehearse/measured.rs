//! What a statement was seen to do. Pure.

use crate::ddl::lock::LockMode;
use crate::pg::name::TableName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a relation is, as far as its locks matter differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A table, a partitioned one, or a foreign one.
    Table,
    /// A materialized view: nobody writes to it.
    Materialized,
    /// A view.
    View,
    /// A sequence.
    Sequence,
    /// An index.
    Index,
    /// A TOAST table: locked with its table, and read through it alone.
    Toast,
    /// Anything else.
    Other,
}

impl RelationKind {
    /// From `pg_class.relkind`.
    pub fn of(relkind: &str) -> RelationKind {
        match relkind {
            "r" | "p" | "f" => RelationKind::Table,
            "m" => RelationKind::Materialized,
            "v" => RelationKind::View,
            "S" => RelationKind::Sequence,
            "i" | "I" => RelationKind::Index,
            "t" => RelationKind::Toast,
            _ => RelationKind::Other,
        }
    }
}

/// A relation at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: RelationKind,
    /// What an index, a TOAST table or a sequence belongs to.
    pub of_table: Option<u32>,
    /// Its file; 0 when it has none.
    pub file: u32,
    /// How often the transaction has read it from end to end.
    pub scans: i64,
}

/// All relations at one moment, by oid.
pub type Relations = BTreeMap<u32, Relation>;

/// A lock a statement was seen to hold or to wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SeenLock {
    /// On what, by the name it had before the statement.
    pub relation: TableName,
    /// What that is.
    pub kind: RelationKind,
    /// The strongest mode.
    pub mode: LockMode,
    /// The table of an index, of a TOAST table or of a sequence that numbers its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_table: Option<TableName>,
}

impl SeenLock {
    /// Whether those who read or write have to wait for it.
    pub fn blocks(&self) -> bool {
        match self.kind {
            RelationKind::Materialized | RelationKind::View => self.mode.blocks_readers(),
            _ => self.mode.blocks_writers(),
        }
    }
}

/// What one statement did to what was there before the plan. What the plan itself made is nobody's yet, and left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Its locks.
    pub locks: Vec<SeenLock>,
    /// How long the statement ran and was committed: as long its locks were held on tables without rows.
    pub held_ms: u64,
    /// Tables it read from end to end.
    pub scanned: BTreeSet<TableName>,
    /// Tables it wrote anew.
    pub rewritten: BTreeSet<TableName>,
    /// Tables an index was built on.
    pub built: BTreeSet<TableName>,
    /// What the server said that shows it.
    pub said: Vec<String>,
}

impl Measured {
    /// Whether it did work in proportion to the rows of some table.
    pub fn works(&self) -> bool {
        !(self.scanned.is_empty() && self.rewritten.is_empty() && self.built.is_empty())
    }

    /// The locks somebody waits for.
    pub fn blocking(&self) -> impl Iterator<Item = &SeenLock> {
        self.locks.iter().filter(|lock| lock.blocks())
    }
}

/// Everything that was seen of one statement, before it is made sense of.
#[derive(Debug, Default)]
pub struct Observation {
    /// The relations there were before the plan.
    pub original: BTreeSet<u32>,
    /// Before the statement.
    pub before: Relations,
    /// After it.
    pub after: Relations,
    /// Relation and mode, in any order, with repetitions.
    pub locks: Vec<(u32, LockMode)>,
    /// The server's messages.
    pub messages: Vec<String>,
    /// The statement empties tables: they get new files, but nothing is read or written.
    pub truncates: bool,
    /// It ran outside a transaction.
    pub outside: bool,
}

impl Observation {
    /// Makes sense of it.
    pub fn measured(&self, held_ms: u64) -> Measured {
        let mut measured = Measured { locks: self.locks(), held_ms, ..Measured::default() };
        for oid in self.before.keys() {
            self.compare_files(*oid, &mut measured);
        }
        for message in &self.messages {
            if self.read_message(message, &mut measured) {
                measured.said.push(message.clone());
            }
        }
        measured
    }

    fn locks(&self) -> Vec<SeenLock> {
        let mut strongest: BTreeMap<u32, LockMode> = BTreeMap::new();
        for (oid, mode) in self.locks.iter().filter(|(oid, _)| self.is_in_use(*oid) && !self.is_let_go(*oid))
        {
            let known = strongest.entry(*oid).or_insert(*mode);
            *known = (*known).max(*mode);
        }
        let mut locks: Vec<SeenLock> = strongest
            .into_iter()
            .filter_map(|(oid, mode)| {
                let relation = self.before.get(&oid)?;
                let of_table = relation.of_table.and_then(|table| self.table_of(table)).cloned();
                Some(SeenLock { relation: relation.name.clone(), kind: relation.kind, mode, of_table })
            })
            .collect();
        locks.sort();
        locks
    }

    /// There before the plan, and still there before the statement.
    fn was_there(&self, oid: u32) -> bool {
        self.original.contains(&oid) && self.before.contains_key(&oid)
    }

    /// There before the plan, or an index the plan has made on what was: every query of the table is planned with a look at it.
    fn is_in_use(&self, oid: u32) -> bool {
        let is_index = |relation: &Relation| relation.kind == RelationKind::Index;
        self.was_there(oid) || self.before.get(&oid).is_some_and(is_index) && self.table_of(oid).is_some()
    }

    /// DROP INDEX CONCURRENTLY ends with ACCESS EXCLUSIVE on the index, which is dead by then: nobody waits for it.
    fn is_let_go(&self, oid: u32) -> bool {
        let is_index = self.before.get(&oid).is_some_and(|relation| relation.kind == RelationKind::Index);
        self.outside && is_index && !self.after.contains_key(&oid)
    }

    /// The table a relation is or belongs to, if it was there before the plan: of a TOAST table's index, two steps.
    fn table_of(&self, oid: u32) -> Option<&TableName> {
        let relation = self.before.get(&oid)?;
        match relation.of_table {
            Some(table) => self.table_of(table),
            None => self.was_there(oid).then_some(&relation.name),
        }
    }

    fn compare_files(&self, oid: u32, measured: &mut Measured) {
        let (Some(before), Some(after)) = (self.before.get(&oid), self.after.get(&oid)) else { return };
        let Some(table) = self.table_of(oid) else { return };
        // Outside a transaction the counters may be those of an earlier one; TRUNCATE builds indexes over the new, empty file.
        let counted = !self.outside && !self.truncates && after.scans > before.scans;
        if counted && before.kind != RelationKind::Toast {
            measured.scanned.insert(table.clone());
        }
        if self.truncates || after.file == before.file {
            return;
        }
        match before.kind {
            RelationKind::Table | RelationKind::Materialized | RelationKind::Toast => {
                measured.rewritten.insert(table.clone());
            }
            RelationKind::Index => {
                measured.built.insert(table.clone());
            }
            // A sequence is one row.
            _ => {}
        }
    }

    /// Notes what a message tells; `false` when it tells nothing of what we look for. The texts are not translated.
    fn read_message(&self, message: &str, measured: &mut Measured) -> bool {
        if self.truncates {
            return false;
        }
        let quoted: Vec<&str> = message.split('"').skip(1).step_by(2).collect();
        let mut note = |name: Option<&&str>, into: fn(&mut Measured) -> &mut BTreeSet<TableName>| {
            let tables = name.map(|name| self.locked_tables(name)).unwrap_or_default();
            let told = !tables.is_empty();
            into(measured).extend(tables);
            told
        };
        if message.starts_with("rewriting table ") {
            note(quoted.first(), |measured| &mut measured.rewritten)
        } else if message.starts_with("verifying table ") {
            note(quoted.first(), |measured| &mut measured.scanned)
        } else if message.starts_with("building index ") {
            note(quoted.get(1), |measured| &mut measured.built)
        } else {
            message.starts_with("validating foreign key constraint ")
        }
    }

    /// The server names tables in its messages without a schema. One that the statement has not locked is not meant.
    fn locked_tables(&self, name: &str) -> Vec<TableName> {
        let locked: BTreeSet<u32> = self.locks.iter().map(|(oid, _)| *oid).collect();
        let named = self.before.iter().filter(|(_, relation)| relation.name.name.as_str() == name);
        named
            .filter(|(oid, relation)| {
                let owner = relation.of_table.unwrap_or(**oid);
                locked.contains(oid) || locked.contains(&owner)
            })
            .filter_map(|(oid, _)| self.table_of(*oid).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(schema: &str, name: &str, kind: RelationKind, of_table: Option<u32>, file: u32) -> Relation {
        Relation { name: TableName::new(schema, name), kind, of_table, file, scans: 0 }
    }

    fn scene() -> Observation {
        let before = Relations::from([
            (1, relation("public", "t", RelationKind::Table, None, 1)),
            (2, relation("public", "t_pkey", RelationKind::Index, Some(1), 2)),
            (3, relation("pg_toast", "pg_toast_1", RelationKind::Toast, Some(1), 3)),
            (4, relation("other", "t", RelationKind::Table, None, 4)),
            (30, relation("pg_toast", "pg_toast_1_index", RelationKind::Index, Some(3), 6)),
            (5, relation("public", "fresh", RelationKind::Table, None, 5)),
        ]);
        Observation {
            original: BTreeSet::from([1, 2, 3, 4, 30]),
            after: before.clone(),
            before,
            ..Observation::default()
        }
    }

    fn t() -> BTreeSet<TableName> {
        BTreeSet::from([TableName::new("public", "t")])
    }

    #[test]
    fn files_tell_rewrites_and_builds() {
        let mut seen = scene();
        seen.after.get_mut(&3).unwrap().file = 30;
        assert_eq!(seen.measured(0).rewritten, t());
        let mut seen = scene();
        seen.after.get_mut(&2).unwrap().file = 20;
        assert_eq!((seen.measured(0).built, seen.measured(0).rewritten), (t(), BTreeSet::new()));
        seen.truncates = true;
        assert!(!seen.measured(0).works());
    }

    #[test]
    fn what_the_plan_made_is_left_out() {
        let mut seen = scene();
        let fresh = seen.after.get_mut(&5).unwrap();
        (fresh.file, fresh.scans) = (50, 1);
        seen.locks = vec![(5, LockMode::AccessExclusive)];
        seen.messages = vec!["rewriting table \"fresh\"".into()];
        assert_eq!(seen.measured(7), Measured { held_ms: 7, ..Measured::default() });
    }

    #[test]
    fn an_index_that_the_plan_made_is_in_use_with_its_table() {
        let mut seen = scene();
        for relations in [&mut seen.before, &mut seen.after] {
            relations.insert(6, relation("public", "t_new", RelationKind::Index, Some(1), 7));
            relations.insert(7, relation("public", "fresh_new", RelationKind::Index, Some(5), 8));
        }
        seen.locks = vec![(6, LockMode::AccessExclusive), (7, LockMode::AccessExclusive)];
        let locks = seen.measured(0).locks;
        assert_eq!(locks.len(), 1, "{locks:?}");
        assert_eq!(locks[0].of_table, Some(TableName::new("public", "t")));
    }

    #[test]
    fn what_belongs_to_a_table_is_told_with_it() {
        let mut seen = scene();
        seen.locks = vec![(30, LockMode::AccessExclusive)];
        assert_eq!(seen.measured(0).locks[0].of_table, Some(TableName::new("public", "t")));
    }

    #[test]
    fn an_index_that_is_dead_when_it_is_locked_is_left_out() {
        let mut seen = scene();
        seen.locks = vec![(1, LockMode::ShareUpdateExclusive), (2, LockMode::AccessExclusive)];
        seen.after.remove(&2);
        assert_eq!(seen.measured(0).locks.len(), 2);
        seen.outside = true;
        assert_eq!(seen.measured(0).locks.len(), 1);
    }

    #[test]
    fn a_message_means_the_table_that_is_locked() {
        let mut seen = scene();
        seen.locks = vec![(1, LockMode::Share), (1, LockMode::AccessShare)];
        seen.messages =
            vec!["building index \"t_a\" on table \"t\" serially".into(), "something else \"t\"".into()];
        let measured = seen.measured(0);
        assert_eq!(measured.built, t());
        assert_eq!(measured.said.len(), 1);
        assert_eq!(measured.locks.len(), 1);
        assert_eq!(measured.locks[0].mode, LockMode::Share);
    }

    #[test]
    fn a_materialized_view_is_blocked_for_readers_alone() {
        let lock =
            |kind, mode| SeenLock { relation: TableName::new("public", "m"), kind, mode, of_table: None };
        assert!(!lock(RelationKind::Materialized, LockMode::Exclusive).blocks());
        assert!(lock(RelationKind::Materialized, LockMode::AccessExclusive).blocks());
        assert!(lock(RelationKind::Table, LockMode::Share).blocks());
        assert!(!lock(RelationKind::Table, LockMode::ShareUpdateExclusive).blocks());
    }
}
