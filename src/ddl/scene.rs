//! The database as a statement of the plan meets it: what was seen live, and what earlier statements made or took away.

use super::{
    parse::{NodeEnum, node},
    source::Statement,
};
use crate::{
    facts::{Index, ServerFacts, Table, TableKind, Volatility},
    pg::name::{Ident, TableName},
};
use changes::Changes;
use std::collections::{BTreeMap, BTreeSet};

mod around;
mod changes;
mod foreign_keys;
mod indexes;
mod statistics;
mod user_types;

pub(super) use around::constraint_node;
pub(super) use foreign_keys::{ForeignKey, Rests};

/// Where a relation comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// Seen on the database.
    Live(&'a Table),
    /// Seen on the database, as something that is no table (a view, a materialized view, a sequence).
    LiveOther,
    /// Made by an earlier statement of this plan: nobody uses it yet.
    New,
    /// Not there.
    Missing,
    /// We have not looked.
    Unseen,
}

/// What is known when a statement runs.
#[derive(Clone)]
pub(super) struct Scene<'a> {
    live: Option<&'a ServerFacts>,
    created: BTreeSet<TableName>,
    dropped: BTreeSet<TableName>,
    /// Indexes made here, with their tables.
    made_indexes: BTreeMap<TableName, TableName>,
    /// Types made here that are no domains with a check.
    plain_types: BTreeSet<String>,
    /// Domains made here that have one.
    checked_domains: BTreeSet<String>,
    /// What was done to tables in use.
    changes: BTreeMap<TableName, Changes>,
    /// Functions made here.
    functions: BTreeMap<String, Volatility>,
    /// Tables given a row security policy here.
    policies_made: BTreeSet<TableName>,
    /// Relations and indexes seen on the database that have another name by now: the new name, and the one seen.
    moved: BTreeMap<TableName, TableName>,
    statistics: statistics::Statistics,
    around: around::Around,
    /// Foreign keys made here.
    keys_made: foreign_keys::Made,
}

impl<'a> Scene<'a> {
    pub fn new(live: Option<&'a ServerFacts>) -> Scene<'a> {
        Scene {
            live,
            created: BTreeSet::new(),
            dropped: BTreeSet::new(),
            made_indexes: BTreeMap::new(),
            plain_types: BTreeSet::new(),
            checked_domains: BTreeSet::new(),
            changes: BTreeMap::new(),
            functions: BTreeMap::new(),
            policies_made: BTreeSet::new(),
            moved: BTreeMap::new(),
            statistics: statistics::seen(live),
            around: around::Around::default(),
            keys_made: foreign_keys::Made::default(),
        }
    }

    /// Whether we have looked at the database.
    pub fn looked(&self) -> bool {
        self.live.is_some()
    }

    /// The relations a DROP names.
    pub fn dropped(&self, drop: &node::DropStmt, path: &[Ident]) -> Vec<TableName> {
        dropped_names(drop).iter().map(|(schema, name)| self.resolve(schema, name, path)).collect()
    }

    /// The relation a name means, by the search path; a name not found means the path's first schema.
    pub fn resolve(&self, schema: &str, name: &str, path: &[Ident]) -> TableName {
        if !schema.is_empty() {
            return TableName::new(schema, name);
        }
        let in_path = |schema: &Ident| TableName { schema: schema.clone(), name: Ident::new(name) };
        path.iter()
            .map(in_path)
            .find(|table| {
                !matches!(self.relation(table), Known::Missing | Known::Unseen) || self.index(table).is_some()
            })
            .or_else(|| path.first().map(in_path))
            .unwrap_or_else(|| TableName::new("public", name))
    }

    /// As [`Scene::resolve`], from the tree.
    pub fn range(&self, range: &node::RangeVar, path: &[Ident]) -> TableName {
        self.resolve(&range.schemaname, &range.relname, path)
    }

    /// What is known of a table, view or the like.
    pub fn relation(&self, name: &TableName) -> Known<'a> {
        if self.created.contains(name) {
            return Known::New;
        }
        if self.dropped.contains(name) {
            return Known::Missing;
        }
        let Some(live) = self.live else { return Known::Unseen };
        let name = self.moved.get(name).unwrap_or(name);
        match live.table(name) {
            Some(table) => Known::Live(table),
            None if live.materialized_views.contains(name)
                || live.views.contains(name)
                || live.sequences.iter().any(|sequence| sequence.name == *name) =>
            {
                Known::LiveOther
            }
            None => Known::Missing,
        }
    }

    /// Whether what was seen under a name is there no longer, also when the plan made another thing of that name.
    fn is_gone(&self, name: &TableName) -> bool {
        self.dropped.contains(name) || self.created.contains(name)
    }

    /// An index seen on the database, with its table.
    pub fn index(&self, name: &TableName) -> Option<(&'a Table, &'a Index)> {
        let live = self.live?;
        if self.dropped.contains(name) {
            return None;
        }
        let name = self.moved.get(name).unwrap_or(name);
        live.tables.iter().filter(|table| table.name.schema == name.schema).find_map(|table| {
            table.indexes.iter().find(|index| index.name == name.name).map(|index| (table, index))
        })
    }

    /// Whether a statement of this plan made the index on something it made as well.
    pub fn is_new_index(&self, name: &TableName) -> bool {
        self.made_indexes.get(name).is_some_and(|table| matches!(self.relation(table), Known::New))
    }

    /// The table of an index that a statement of this plan made.
    pub fn made_index(&self, name: &TableName) -> Option<&TableName> {
        self.made_indexes.get(name)
    }

    /// Whether a name is free for an index in a schema, as far as we know.
    pub fn is_free(&self, name: &TableName) -> bool {
        self.index(name).is_none()
            && !self.made_indexes.contains_key(name)
            && matches!(self.relation(name), Known::Missing | Known::Unseen)
    }

    /// The partitions right below a partitioned table, sorted by name.
    pub fn partitions(&self, parent: &TableName) -> Vec<&'a Table> {
        let Some(live) = self.live else { return Vec::new() };
        live.tables
            .iter()
            .filter(|table| table.is_partition && table.parent.as_ref() == Some(parent))
            .collect()
    }

    /// Whether other tables inherit from a table, or are its partitions.
    pub fn has_children(&self, parent: &TableName) -> bool {
        self.live.is_some_and(|live| live.tables.iter().any(|table| table.parent.as_ref() == Some(parent)))
    }

    /// Whether extended statistics are about a table.
    pub fn has_statistics(&self, table: &TableName) -> bool {
        self.statistics.values().any(|about| about == table)
    }

    /// A partitioned table's partitions at every level.
    pub fn all_partitions(&self, parent: &TableName) -> Vec<&'a Table> {
        let mut all = Vec::new();
        for table in self.partitions(parent) {
            all.push(table);
            if table.kind == TableKind::Partitioned {
                all.extend(self.all_partitions(&table.name));
            }
        }
        all
    }

    /// Whether a type was made by this plan and holds no check.
    pub fn is_plain_type(&self, name: &str) -> bool {
        self.plain_types.contains(name)
    }

    /// Whether a domain of this name was made by this plan, with a constraint.
    pub fn is_domain_made_here(&self, name: &str) -> bool {
        self.checked_domains.contains(name)
    }

    /// Remembers what a statement, and what runs in its place, make and take away.
    pub fn learn_outcome<'s>(&mut self, statement: &Statement, ran: impl Iterator<Item = &'s str>) {
        self.learn(&statement.tree, &statement.search_path);
        let ran: Vec<&str> = ran.collect();
        let is_whole = ran.is_empty() || ran.contains(&statement.sql.as_str());
        if matches!(statement.tree, NodeEnum::DoStmt(_)) && is_whole {
            self.learn_block(statement);
        }
        for sql in ran.into_iter().filter(|sql| *sql != statement.sql) {
            for tree in super::parse::trees(sql).unwrap_or_default() {
                self.learn(&tree, &statement.search_path);
            }
        }
    }

    /// What a DO block makes, when it is run whole. What it may make and may not is taken as in use, if it is there.
    fn learn_block(&mut self, statement: &Statement) {
        for inside in super::block::read(&statement.sql).unwrap_or_default().statements {
            let tree = match super::parse::parse_one(&inside.sql) {
                Ok(NodeEnum::CreateStmt(mut create)) => {
                    create.if_not_exists |= inside.conditional();
                    NodeEnum::CreateStmt(create)
                }
                Ok(NodeEnum::DropStmt(_)) if inside.conditional() => continue,
                Ok(tree) => tree,
                Err(_) => continue,
            };
            self.learn(&tree, &statement.search_path);
        }
    }

    /// Remembers what a statement makes and takes away.
    pub fn learn(&mut self, tree: &NodeEnum, path: &[Ident]) {
        self.learn_around(tree, path);
        self.learn_statistics(tree, path);
        match tree {
            NodeEnum::CreateStmt(create) => self.make(create.relation.as_ref(), path, create.if_not_exists),
            NodeEnum::CreateTableAsStmt(create) => {
                let range = create.into.as_ref().and_then(|into| into.rel.as_ref());
                self.make(range, path, create.if_not_exists);
            }
            NodeEnum::ViewStmt(view) => self.make(view.view.as_ref(), path, view.replace),
            NodeEnum::CreateSeqStmt(create) => {
                self.make(create.sequence.as_ref(), path, create.if_not_exists);
            }
            NodeEnum::CompositeTypeStmt(create) => {
                let name = create.typevar.as_ref().map(|range| range.relname.clone());
                self.plain_types.extend(name);
            }
            NodeEnum::CreateEnumStmt(create) => {
                self.plain_types.extend(super::parse::strings(&create.type_name).pop());
            }
            NodeEnum::CreateDomainStmt(create) if create.constraints.is_empty() => {
                self.plain_types.extend(super::parse::strings(&create.domainname).pop());
            }
            NodeEnum::CreateDomainStmt(create) => {
                self.checked_domains.extend(super::parse::strings(&create.domainname).pop());
            }
            NodeEnum::IndexStmt(index) => {
                let Some(range) = &index.relation else { return };
                let table = self.range(range, path);
                if !index.idxname.is_empty() {
                    let name = TableName { schema: table.schema.clone(), name: Ident::new(&index.idxname) };
                    self.made_indexes.insert(name, table);
                }
            }
            NodeEnum::DropStmt(drop) => self.forget(drop, path),
            NodeEnum::RenameStmt(rename) => self.rename(rename, path),
            NodeEnum::AlterObjectSchemaStmt(moved) => {
                if let Some(range) = &moved.relation {
                    let from = self.range(range, path);
                    let to = TableName { schema: Ident::new(&moved.newschema), name: from.name.clone() };
                    self.moved(from, to);
                }
            }
            _ => {}
        }
        self.learn_changes(tree, path);
        self.learn_foreign_keys(tree, path);
    }

    fn make(&mut self, range: Option<&node::RangeVar>, path: &[Ident], may_exist: bool) {
        let Some(range) = range else { return };
        let first = path.first().map_or("public", Ident::as_str);
        let schema = if range.schemaname.is_empty() { first } else { range.schemaname.as_str() };
        let name = TableName::new(schema, range.relname.as_str());
        // With IF NOT EXISTS or OR REPLACE an existing relation stays what it is: in use. Without a look we cannot tell.
        let may_be_live = may_exist && !matches!(self.relation(&name), Known::Missing);
        if !may_be_live {
            self.dropped.remove(&name);
            self.created.insert(name);
        }
    }

    fn rename(&mut self, rename: &node::RenameStmt, path: &[Ident]) {
        use node::ObjectType as Object;
        let is_relation = matches!(
            rename.rename_type(),
            Object::ObjectTable
                | Object::ObjectIndex
                | Object::ObjectView
                | Object::ObjectMatview
                | Object::ObjectSequence
                | Object::ObjectForeignTable
        );
        let Some(range) = rename.relation.as_ref().filter(|_| is_relation) else { return };
        let from = self.range(range, path);
        let to = TableName { schema: from.schema.clone(), name: Ident::new(&rename.newname) };
        self.moved(from, to);
    }

    /// A relation or index has another name from here on.
    fn moved(&mut self, from: TableName, to: TableName) {
        for table in self.statistics.values_mut().filter(|table| **table == from) {
            *table = to.clone();
        }
        self.move_foreign_keys(&from, &to);
        self.rename_around(&from, &to);
        if let Some(changes) = self.changes.remove(&from) {
            self.changes.insert(to.clone(), changes);
        }
        if let Some(table) = self.made_indexes.remove(&from) {
            self.made_indexes.insert(to, table);
            return;
        }
        if self.created.remove(&from) {
            self.created.insert(to);
            return;
        }
        let seen = self.moved.remove(&from).unwrap_or_else(|| from.clone());
        self.dropped.insert(from);
        self.dropped.remove(&to);
        self.moved.insert(to, seen);
    }

    fn forget(&mut self, drop: &node::DropStmt, path: &[Ident]) {
        let is_relation = matches!(
            drop.remove_type(),
            node::ObjectType::ObjectTable
                | node::ObjectType::ObjectView
                | node::ObjectType::ObjectSequence
                | node::ObjectType::ObjectMatview
        );
        if !is_relation {
            return;
        }
        for name in dropped_names(drop) {
            let name = self.resolve(&name.0, &name.1, path);
            self.created.remove(&name);
            self.dropped.insert(name);
        }
    }
}

/// The (schema, name) pairs a DROP names.
pub(super) fn dropped_names(drop: &node::DropStmt) -> Vec<(String, String)> {
    drop.objects
        .iter()
        .filter_map(|object| match &object.node {
            Some(NodeEnum::List(list)) => {
                let mut parts = super::parse::strings(&list.items);
                let name = parts.pop()?;
                Some((parts.pop().unwrap_or_default(), name))
            }
            _ => None,
        })
        .collect()
}

/// What DROP TRIGGER, POLICY and RULE name: the table's name in parts, and the object's.
pub(super) fn dropped_of_table(drop: &node::DropStmt) -> Vec<(Vec<String>, String)> {
    drop.objects
        .iter()
        .filter_map(|object| match &object.node {
            Some(NodeEnum::List(list)) => {
                let mut parts = super::parse::strings(&list.items);
                let name = parts.pop()?;
                Some((parts, name))
            }
            _ => None,
        })
        .collect()
}
