//! Foreign keys as they are after the statements so far: those seen on the database, and those that the plan made, by ALTER TABLE
//! or with a table.

use super::{Known, Scene, constraint_node};
use crate::{
    ddl::{
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType, ConstrType, DropBehavior, ObjectType},
        },
        recipe::names::Names,
    },
    facts::{Constraint, ConstraintKind, Table},
    pg::name::{Ident, TableName},
};
use std::collections::BTreeMap;

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ddl) struct ForeignKey {
    /// The table that has it.
    pub table: TableName,
    /// Its name.
    pub name: Ident,
    /// The other table.
    pub references: TableName,
    /// As `pg_get_constraintdef` writes it.
    pub definition: String,
    /// Unique indexes of the other table, of which it rests on one: usually there is one only.
    rests_on: Vec<Ident>,
    inherited: bool,
}

/// Whether a foreign key falls with an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ddl) enum Rests {
    /// It falls with it.
    Yes,
    /// It rests on another one.
    No,
    /// The index is one of several that it may rest on.
    Perhaps,
}

impl ForeignKey {
    /// Its columns, and those of the other table.
    pub fn columns(&self) -> (Vec<String>, Vec<String>) {
        constraint_node(&self.definition)
            .map(|tree| (parse::strings(&tree.fk_attrs), parse::strings(&tree.pk_attrs)))
            .unwrap_or_default()
    }

    /// Whether it rests on an index of the other table.
    pub fn rests_on(&self, index: &Ident) -> Rests {
        match self.rests_on.as_slice() {
            [only] if only == index => Rests::Yes,
            several if several.len() > 1 && several.contains(index) => Rests::Perhaps,
            _ => Rests::No,
        }
    }

    /// The statement that drops it.
    pub fn dropped(&self) -> String {
        format!("alter table {} drop constraint {}", self.table, self.name)
    }

    /// `k of t`, for messages.
    pub fn plain(&self) -> String {
        format!("{} of {}", self.name.as_str(), self.table.plain())
    }
}

/// Foreign keys made by this plan, by table and name.
pub(super) type Made = BTreeMap<(TableName, String), MadeKey>;

/// A foreign key made by this plan.
#[derive(Debug, Clone)]
pub(super) struct MadeKey {
    columns: Vec<String>,
    references: TableName,
    referenced: Vec<String>,
    /// What follows the columns.
    tail: String,
    rests_on: Vec<Ident>,
}

impl MadeKey {
    fn as_key(&self, table: &TableName, name: &str) -> ForeignKey {
        let list = |columns: &[String]| {
            let names: Vec<String> = columns.iter().map(|name| Ident::new(name).to_string()).collect();
            format!("({})", names.join(", "))
        };
        let referenced =
            if self.referenced.is_empty() { String::new() } else { list(self.referenced.as_slice()) };
        ForeignKey {
            table: table.clone(),
            name: Ident::new(name),
            references: self.references.clone(),
            definition: format!(
                "FOREIGN KEY {} REFERENCES {}{referenced}{}",
                list(&self.columns),
                self.references,
                self.tail
            ),
            rests_on: self.rests_on.clone(),
            inherited: false,
        }
    }
}

impl<'a> Scene<'a> {
    /// The foreign keys of a table; those its parent gave it are left out.
    pub fn foreign_keys(&self, table: &TableName) -> Vec<ForeignKey> {
        let mut keys = self.every_foreign_key(table);
        let own = self.around.detached.contains(table);
        keys.retain(|key| own || !key.inherited);
        keys
    }

    /// The foreign keys of a table, also those its parent gave it.
    pub fn every_foreign_key(&self, table: &TableName) -> Vec<ForeignKey> {
        let seen = self.live_table(table).into_iter().flat_map(|seen| self.seen_keys(seen));
        let made = self.keys_made.iter().filter(|((on, _), _)| on == table);
        seen.chain(made.map(|((on, name), key)| key.as_key(on, name))).collect()
    }

    /// The foreign keys of other tables that refer to one; those that a partition has from its parent are left out.
    pub fn foreign_keys_to(&self, referenced: &TableName) -> Vec<ForeignKey> {
        let mut keys = self.referring(referenced);
        keys.retain(|key| key.table != *referenced);
        keys
    }

    /// The foreign keys that refer to a table, its own among them.
    pub fn referring(&self, referenced: &TableName) -> Vec<ForeignKey> {
        let seen_name = match self.relation(referenced) {
            Known::Live(table) => Some(&table.name),
            _ => None,
        };
        let refers = |key: &Constraint| key.references.as_ref() == seen_name;
        let tables = self.live.into_iter().flat_map(|live| &live.tables);
        let seen = tables
            .filter(|table| seen_name.is_some() && table.constraints.iter().any(refers))
            .flat_map(|table| self.seen_keys(table))
            .filter(|key| !key.inherited || self.around.detached.contains(&key.table));
        let made = self.keys_made.iter().map(|((table, name), key)| key.as_key(table, name));
        seen.chain(made).filter(|key| key.references == *referenced).collect()
    }

    /// The foreign keys seen of a table that are still there, all by their names of now.
    fn seen_keys(&self, table: &'a Table) -> Vec<ForeignKey> {
        let Some(now) = self.name_now(&table.name) else { return Vec::new() };
        let keys = table.constraints.iter().filter(|known| known.kind == ConstraintKind::ForeignKey);
        keys.filter(|known| self.has_constraint(&now, &known.name))
            .filter_map(|known| {
                Some(ForeignKey {
                    table: now.clone(),
                    name: known.name.clone(),
                    references: self.name_now(known.references.as_ref()?)?,
                    definition: known.definition.clone(),
                    rests_on: known.index.iter().cloned().collect(),
                    inherited: known.inherited,
                })
            })
            .collect()
    }

    /// What a relation that was seen is called by now, if it is still there.
    fn name_now(&self, seen: &TableName) -> Option<TableName> {
        match self.moved.iter().find(|(_, was)| *was == seen) {
            Some((now, _)) => Some(now.clone()),
            None => (!self.dropped.contains(seen) && !self.created.contains(seen)).then(|| seen.clone()),
        }
    }

    /// The unique indexes of a table that a foreign key to these columns may rest on; without columns, the primary key's.
    fn held_by(&self, table: &TableName, columns: &[String]) -> Vec<Ident> {
        let same = |key: &[String]| key.len() == columns.len() && columns.iter().all(|one| key.contains(one));
        let live = self.live_table(table).into_iter().flat_map(|table| &table.indexes);
        let seen = live
            .filter(|index| index.unique && index.immediate && index.valid && index.plain)
            .filter(|index| !self.has_lost(table, &index.name))
            .filter(|index| {
                let key: Vec<String> = index.columns.iter().map(|name| name.as_str().to_owned()).collect();
                if columns.is_empty() { index.primary } else { same(&key) }
            })
            .map(|index| index.name.clone());
        let made = self.unique_indexes_made(table).into_iter();
        let made = made.filter(|(_, key)| same(key)).map(|(name, _)| Ident::new(name));
        let keys = self.constraints(table).into_iter().filter(|(_, now)| {
            let is_wanted =
                if columns.is_empty() { now.kind == ConstraintKind::PrimaryKey } else { same(&now.key) };
            is_wanted && !now.key.is_empty()
        });
        let mut found: Vec<Ident> = seen.chain(made).chain(keys.map(|(name, _)| Ident::new(name))).collect();
        found.sort();
        found.dedup();
        found
    }

    /// The columns of a table's primary key, as far as they are known.
    fn primary_columns(&self, table: &TableName) -> Vec<String> {
        let made = self.made_keys(table).into_iter().find(|(is_primary, _)| *is_primary);
        let live = self.live_table(table).into_iter().flat_map(|table| &table.indexes);
        let seen = live.filter(|index| index.primary && !self.has_lost(table, &index.name));
        let mut seen = seen.map(|index| index.columns.iter().map(|name| name.as_str().to_owned()).collect());
        made.map(|(_, columns)| columns).or_else(|| seen.next()).unwrap_or_default()
    }

    /// Remembers what a statement does to foreign keys.
    pub(super) fn learn_foreign_keys(&mut self, tree: &NodeEnum, path: &[Ident]) {
        match tree {
            NodeEnum::CreateStmt(create) => self.learn_created(create, path),
            NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectTable => {
                let Some(range) = &alter.relation else { return };
                let table = self.range(range, path);
                for command in &alter.cmds {
                    if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                        self.learn_altered(&table, command, path);
                    }
                }
            }
            NodeEnum::RenameStmt(rename) => self.learn_renamed(rename, path),
            NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectTable => {
                let cascades = drop.behavior() == DropBehavior::DropCascade;
                for table in self.dropped(drop, path) {
                    self.keys_made
                        .retain(|(on, _), key| *on != table && !(cascades && key.references == table));
                }
            }
            _ => {}
        }
    }

    fn learn_created(&mut self, create: &node::CreateStmt, path: &[Ident]) {
        let Some(range) = &create.relation else { return };
        let table = self.range(range, path);
        if !matches!(self.relation(&table), Known::New) {
            return;
        }
        let mut found: Vec<(node::Constraint, Option<String>)> = Vec::new();
        for item in create.table_elts.iter().chain(&create.constraints) {
            match &item.node {
                Some(NodeEnum::Constraint(constraint)) => found.push(((**constraint).clone(), None)),
                Some(NodeEnum::ColumnDef(column)) => found.extend(of_column(column)),
                _ => {}
            }
        }
        for (constraint, _) in found.iter().filter(|(one, _)| one.contype() != ConstrType::ConstrForeign) {
            self.learn_constraint(&table, constraint, path);
        }
        self.learn_keys(&table, found, path);
    }

    fn learn_altered(&mut self, table: &TableName, command: &node::AlterTableCmd, path: &[Ident]) {
        let def = command.def.as_ref().and_then(|def| def.node.as_ref());
        let key = (table.clone(), command.name.clone());
        match (command.subtype(), def) {
            (AlterTableType::AtAddConstraint, Some(NodeEnum::Constraint(constraint))) => {
                self.learn_keys(table, vec![((**constraint).clone(), None)], path);
            }
            (AlterTableType::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => {
                self.learn_keys(table, of_column(column), path);
            }
            (AlterTableType::AtDropConstraint, _) => {
                self.keys_made.remove(&key);
            }
            (AlterTableType::AtDropColumn, _) => {
                let goes = |on: &TableName, made: &MadeKey| {
                    *on == *table && made.columns.contains(&command.name)
                        || made.references == *table && made.referenced.contains(&command.name)
                };
                self.keys_made.retain(|(on, _), made| !goes(on, made));
            }
            (AlterTableType::AtValidateConstraint, _) => {
                if let Some(made) = self.keys_made.get_mut(&key) {
                    made.tail = made.tail.trim_end_matches(NOT_VALID).to_owned();
                }
            }
            _ => {}
        }
    }

    fn learn_keys(
        &mut self,
        table: &TableName,
        found: Vec<(node::Constraint, Option<String>)>,
        path: &[Ident],
    ) {
        let keys = found.into_iter().filter(|(one, _)| one.contype() == ConstrType::ConstrForeign);
        let mut named = Vec::new();
        {
            let names = Names::new(self, table);
            for (constraint, column) in keys {
                let name = names.of(&constraint, column.as_deref());
                named.push((name, constraint, column));
            }
        }
        for (name, mut constraint, column) in named {
            let Some(range) = &constraint.pktable else { continue };
            let references = self.range(range, path);
            let mut referenced = parse::strings(&constraint.pk_attrs);
            let rests_on = self.held_by(&references, &referenced);
            if referenced.is_empty() {
                referenced = self.primary_columns(&references);
            }
            let columns = match column {
                Some(column) => vec![column],
                None => parse::strings(&constraint.fk_attrs),
            };
            let tail = tail(&constraint);
            let key = (table.clone(), name.as_str().to_owned());
            self.keys_made.insert(key, MadeKey { columns, references, referenced, tail, rests_on });
            // With its table or column it is no part of ALTER TABLE, from which constraints are learned.
            constraint.conname = name.as_str().to_owned();
            self.learn_constraint(table, &constraint, path);
        }
    }

    fn learn_renamed(&mut self, rename: &node::RenameStmt, path: &[Ident]) {
        let Some(range) = &rename.relation else { return };
        let table = self.range(range, path);
        let (from, to) = (&rename.subname, &rename.newname);
        match rename.rename_type() {
            ObjectType::ObjectColumn => {
                for ((on, _), key) in &mut self.keys_made {
                    let own = if *on == table { Some(&mut key.columns) } else { None };
                    let theirs = if key.references == table { Some(&mut key.referenced) } else { None };
                    let names = own.into_iter().chain(theirs).flatten();
                    names.filter(|name| *name == from).for_each(|name| to.clone_into(name));
                }
            }
            ObjectType::ObjectTabconstraint => {
                self.rename_index_of_key(&table, from, to);
                let made = self.keys_made.remove(&(table.clone(), from.clone()));
                if let Some(made) = made.or_else(|| self.as_made(&table, from)) {
                    self.keys_made.insert((table.clone(), to.clone()), made);
                }
                self.rename_constraint(table, from, to);
            }
            _ => {}
        }
    }

    /// The index of a key has the key's name.
    fn rename_index_of_key(&mut self, table: &TableName, from: &str, to: &str) {
        for key in self.keys_made.values_mut().filter(|key| key.references == *table) {
            key.rests_on
                .iter_mut()
                .filter(|name| name.as_str() == from)
                .for_each(|name| *name = Ident::new(to));
        }
    }

    /// A foreign key that was seen, as one made here.
    fn as_made(&self, table: &TableName, name: &str) -> Option<MadeKey> {
        let seen = self.every_foreign_key(table).into_iter().find(|key| key.name.as_str() == name)?;
        let (columns, referenced) = seen.columns();
        let tail = constraint_node(&seen.definition).map(|tree| tail(&tree)).unwrap_or_default();
        Some(MadeKey { columns, references: seen.references, referenced, tail, rests_on: seen.rests_on })
    }

    /// A relation or index has another name from here on.
    pub(super) fn move_foreign_keys(&mut self, from: &TableName, to: &TableName) {
        let keys = std::mem::take(&mut self.keys_made);
        for ((table, name), mut key) in keys {
            let table = if table == *from { to.clone() } else { table };
            if key.references == *from {
                key.references = to.clone();
            }
            if key.references.schema == from.schema && self.made_indexes.contains_key(from) {
                let names = key.rests_on.iter_mut().filter(|index| **index == from.name);
                names.for_each(|index| *index = to.name.clone());
            }
            self.keys_made.insert((table, name), key);
        }
    }
}

const NOT_VALID: &str = " NOT VALID";

/// The foreign keys in a column's definition; their attributes follow them as items of their own.
fn of_column(column: &node::ColumnDef) -> Vec<(node::Constraint, Option<String>)> {
    let mut found: Vec<(node::Constraint, Option<String>)> = Vec::new();
    for item in &column.constraints {
        let Some(NodeEnum::Constraint(constraint)) = &item.node else { continue };
        let last = found.last_mut();
        match (constraint.contype(), last) {
            (ConstrType::ConstrAttrDeferrable, Some((last, _))) => last.deferrable = true,
            (ConstrType::ConstrAttrDeferred, Some((last, _))) => {
                (last.deferrable, last.initdeferred) = (true, true);
            }
            _ => found.push(((**constraint).clone(), Some(column.colname.clone()))),
        }
    }
    found
}

/// What a foreign key's definition says after the columns.
fn tail(key: &node::Constraint) -> String {
    let action = |kind: &str| match kind {
        "r" => "RESTRICT",
        "c" => "CASCADE",
        "n" => "SET NULL",
        "d" => "SET DEFAULT",
        _ => "",
    };
    let mut tail = String::new();
    if key.fk_matchtype == "f" {
        tail.push_str(" MATCH FULL");
    }
    for (event, kind) in [("UPDATE", &key.fk_upd_action), ("DELETE", &key.fk_del_action)] {
        if !action(kind).is_empty() {
            tail.push_str(&format!(" ON {event} {}", action(kind)));
        }
    }
    let set: Vec<String> =
        parse::strings(&key.fk_del_set_cols).iter().map(|name| Ident::new(name).to_string()).collect();
    if !set.is_empty() {
        tail.push_str(&format!(" ({})", set.join(", ")));
    }
    match (key.deferrable, key.initdeferred) {
        (_, true) => tail.push_str(" DEFERRABLE INITIALLY DEFERRED"),
        (true, false) => tail.push_str(" DEFERRABLE"),
        _ => {}
    }
    if !key.is_enforced {
        tail.push_str(" NOT ENFORCED");
    } else if key.skip_validation {
        tail.push_str(NOT_VALID);
    }
    tail
}
