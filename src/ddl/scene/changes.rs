//! What the statements so far did to tables in use: columns, constraints, indexes, and what that proves.

use super::indexes::has_column;
use super::{Known, Scene};
use crate::{
    ddl::{
        parse::{self, NodeEnum, node},
        types::SqlType,
        volatility,
    },
    facts::{Column, Constraint, ConstraintKind, Domain, Table, Volatility},
    pg::name::{Ident, TableName},
};
use node::{AlterTableType as Type, ConstrType};
use std::collections::BTreeMap;

/// What was done to one table.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    /// Added or changed (`Some`) and dropped (`None`).
    columns: BTreeMap<String, Option<ColumnNow>>,
    pub(super) constraints: BTreeMap<String, Option<ConstraintNow>>,
    /// Key columns of indexes made here; `None` for an expression.
    pub(super) indexes: BTreeMap<String, Vec<Option<String>>>,
    /// The UPDATE that took the NULLs out of a column.
    filled: BTreeMap<String, String>,
    /// Columns whose default was set (`true`) or taken away.
    defaults: BTreeMap<String, bool>,
}

/// A column as it is after the statements so far.
#[derive(Debug, Clone, Default)]
struct ColumnNow {
    sql_type: Option<SqlType>,
    not_null: Option<bool>,
}

/// A constraint as it is after the statements so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ddl) struct ConstraintNow {
    /// Its kind.
    pub kind: ConstraintKind,
    /// Proved for all rows.
    pub validated: bool,
    /// The column that it says is not NULL, if it is of that form.
    pub not_null_of: Option<String>,
    /// The columns of a key made here; those of one that was seen are its index's.
    pub key: Vec<String>,
    /// The other table of a foreign key.
    pub references: Option<TableName>,
    /// `pg_get_constraintdef`, when it was seen on the database.
    pub definition: Option<String>,
}

impl<'a> Scene<'a> {
    /// A function of the database.
    pub fn function(&self, schema: &str, name: &str) -> Option<Volatility> {
        self.live?.functions.get(&format!("{schema}.{name}")).copied()
    }

    /// A function made by this plan.
    pub fn made_function(&self, name: &str) -> Option<Volatility> {
        self.functions.get(name).copied()
    }

    /// A domain of the database.
    pub fn domain(&self, schema: Option<&str>, name: &str, path: &[Ident]) -> Option<&'a Domain> {
        let schemas = schema.map_or_else(|| path.iter().map(Ident::as_str).collect(), |schema| vec![schema]);
        let domains = &self.live?.domains;
        schemas
            .iter()
            .find_map(|schema| domains.iter().find(|domain| domain.name == TableName::new(*schema, name)))
    }

    /// The sequence that a column owns.
    pub fn sequence_of(&self, table: &TableName, column: &str) -> Option<TableName> {
        let owned = |owner: &(TableName, Ident)| owner.0 == *table && owner.1.as_str() == column;
        let mut sequences = self.live?.sequences.iter();
        sequences
            .find(|sequence| sequence.owner.as_ref().is_some_and(owned))
            .map(|sequence| sequence.name.clone())
    }

    /// The server's major version, when we have looked.
    pub fn major(&self) -> Option<u32> {
        self.live.map(crate::facts::ServerFacts::major)
    }

    /// Whether an UPDATE of a table fires triggers of the user's; `None` when nobody has looked.
    pub fn fires_triggers(&self, table: &TableName) -> Option<bool> {
        Some(self.live?.update_triggers.contains(table))
    }

    /// A setting that facts keep.
    pub fn setting(&self, name: &str) -> Option<&'a str> {
        self.live?.settings.get(name).map(String::as_str)
    }

    /// Whether a column is there; `None` when nobody has looked.
    pub fn has_column(&self, table: &TableName, column: &str) -> Option<bool> {
        match self.changes.get(table).and_then(|changes| changes.columns.get(column)) {
            Some(now) => Some(now.is_some()),
            None => Some(self.live_table(table)?.columns.iter().any(|known| known.name.as_str() == column)),
        }
    }

    /// A column's type as it is now.
    pub fn column_type(&self, table: &TableName, column: &str) -> Option<SqlType> {
        let now = self.changes.get(table).and_then(|changes| changes.columns.get(column));
        match now {
            Some(now) if now.as_ref()?.sql_type.is_some() => now.as_ref()?.sql_type.clone(),
            _ => SqlType::parse(&self.live_column(table, column)?.type_name),
        }
    }

    /// A column's type as SQL writes it, as it is now.
    pub fn type_text(&self, table: &TableName, column: &str) -> Option<String> {
        let now = self.column_type(table, column)?;
        let seen = self.live_column(table, column).map(|seen| &seen.type_name);
        let same = seen.filter(|seen| SqlType::parse(seen).as_ref() == Some(&now));
        (self.has_column(table, column) == Some(true)).then(|| same.cloned().unwrap_or_else(|| now.text()))
    }

    /// A column as it was seen on the database.
    pub fn live_column(&self, table: &TableName, column: &str) -> Option<&'a Column> {
        self.live_table(table)?.columns.iter().find(|known| known.name.as_str() == column)
    }

    /// Whether a column is as it was seen on the database, but for a default that was taken away and for what was dropped: no
    /// constraint or index made or proved here has it.
    pub fn is_as_seen(&self, table: &TableName, column: &str) -> bool {
        let Some(changes) = self.changes.get(table) else { return true };
        let trees = self.constraint_trees(table);
        let is_free = |(name, now): (&String, &Option<ConstraintNow>)| {
            let tree = trees.iter().find(|(known, _)| known == name);
            now.is_none() || tree.is_some_and(|(_, tree)| !has_column(tree, column))
        };
        !changes.columns.contains_key(column)
            && changes.defaults.get(column) != Some(&true)
            && changes.constraints.iter().all(is_free)
            && changes.indexes.keys().all(|index| self.is_index_without(table, index, column))
    }

    /// Whether a statement of this plan took a column's default away.
    pub fn lost_default(&self, table: &TableName, column: &str) -> bool {
        self.changes.get(table).is_some_and(|changes| changes.defaults.get(column) == Some(&false))
    }

    /// Whether a statement of this plan dropped an index or constraint of a table.
    pub fn has_lost(&self, table: &TableName, name: &Ident) -> bool {
        let lost = |changes: &Changes| changes.constraints.get(name.as_str()).is_some_and(Option::is_none);
        self.changes.get(table).is_some_and(lost)
            || self.dropped.contains(&TableName { schema: table.schema.clone(), name: name.clone() })
    }

    /// Whether a column is NOT NULL and proved to be; unknown counts as no.
    pub fn is_not_null(&self, table: &TableName, column: &str) -> bool {
        let unproved = |(_, now): (String, ConstraintNow)| {
            now.kind == ConstraintKind::NotNull
                && !now.validated
                && now.not_null_of.as_deref() == Some(column)
        };
        if self.constraints(table).into_iter().any(unproved) {
            return false;
        }
        let changed = self.changes.get(table).and_then(|changes| changes.columns.get(column));
        match changed.and_then(|now| now.as_ref()?.not_null) {
            Some(not_null) => not_null,
            None => self.live_column(table, column).is_some_and(|column| column.not_null),
        }
    }

    /// The constraints of a table, as they are now.
    pub fn constraints(&self, table: &TableName) -> Vec<(String, ConstraintNow)> {
        let changes = self.changes.get(table);
        let is_changed = |name: &str| changes.is_some_and(|changes| changes.constraints.contains_key(name));
        let live = self.live_table(table).into_iter().flat_map(|table| &table.constraints);
        let kept = live
            .filter(|known| !is_changed(known.name.as_str()))
            .map(|known| (known.name.as_str().to_owned(), as_seen(known)));
        let made = changes.into_iter().flat_map(|changes| &changes.constraints);
        kept.chain(made.filter_map(|(name, now)| Some((name.clone(), now.clone()?)))).collect()
    }

    /// A constraint of a table, as it is now.
    pub fn constraint(&self, table: &TableName, name: &str) -> Option<ConstraintNow> {
        self.constraints(table).into_iter().find(|(known, _)| known == name).map(|(_, now)| now)
    }

    /// A constraint that says that a column is not NULL: its name, and whether it is proved. Proved ones first.
    pub fn says_not_null(&self, table: &TableName, column: &str) -> Option<(String, ConstraintNow)> {
        let mut found: Vec<_> = self
            .constraints(table)
            .into_iter()
            .filter(|(_, now)| now.not_null_of.as_deref() == Some(column))
            .collect();
        found.sort_by_key(|(_, now)| !now.validated);
        found.into_iter().next()
    }

    /// Whether a name is free for a constraint in a schema, as far as we know.
    pub fn is_free_constraint(&self, schema: &Ident, name: &str) -> bool {
        let live = self.live.into_iter().flat_map(|live| &live.tables);
        let dropped = |table: &TableName| {
            self.changes
                .get(table)
                .is_some_and(|changes| changes.constraints.get(name).is_some_and(Option::is_none))
        };
        let seen = live
            .filter(|table| table.name.schema == *schema && !dropped(&table.name))
            .any(|table| table.constraints.iter().any(|constraint| constraint.name.as_str() == name));
        let made = self.changes.iter().filter(|(table, _)| table.schema == *schema);
        !seen
            && !made
                .into_iter()
                .any(|(_, changes)| changes.constraints.get(name).is_some_and(Option::is_some))
    }

    /// The views that use a column and are not dropped by this plan.
    pub fn views_of(&self, table: &TableName, column: &str) -> Vec<&'a TableName> {
        let used = self.live.into_iter().flat_map(|live| &live.viewed_columns);
        used.filter(|used| used.table == *table && used.column.as_str() == column)
            .map(|used| &used.view)
            .filter(|view| !self.is_gone(view))
            .collect()
    }

    /// The UPDATE of this plan that took the NULLs out of a column.
    pub fn filled(&self, table: &TableName, column: &str) -> Option<&str> {
        self.changes.get(table)?.filled.get(column).map(String::as_str)
    }

    pub(super) fn live_table(&self, table: &TableName) -> Option<&'a Table> {
        match self.relation(table) {
            Known::Live(table) => Some(table),
            _ => None,
        }
    }

    /// Remembers what a statement did to a table in use.
    pub(super) fn learn_changes(&mut self, tree: &NodeEnum, path: &[Ident]) {
        match tree {
            NodeEnum::AlterTableStmt(alter) if alter.objtype() == node::ObjectType::ObjectTable => {
                let Some(range) = &alter.relation else { return };
                let table = self.range(range, path);
                for command in &alter.cmds {
                    if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                        self.learn_command(&table, command, path);
                    }
                }
            }
            NodeEnum::IndexStmt(index) if !index.idxname.is_empty() => {
                let Some(range) = &index.relation else { return };
                let table = self.range(range, path);
                let columns = index.index_params.iter().map(|item| match &item.node {
                    Some(NodeEnum::IndexElem(element)) if element.expr.is_none() => {
                        Some(element.name.clone())
                    }
                    _ => None,
                });
                self.changes
                    .entry(table)
                    .or_default()
                    .indexes
                    .insert(index.idxname.clone(), columns.collect());
            }
            NodeEnum::RenameStmt(rename) => self.learn_rename(rename, path),
            NodeEnum::CreateFunctionStmt(function) => self.learn_function(function),
            NodeEnum::DropStmt(drop) if drop.remove_type() == node::ObjectType::ObjectIndex => {
                for (schema, name) in super::dropped_names(drop) {
                    let index = self.resolve(&schema, &name, path);
                    if let Some(changes) = self.changes_with_index(&index) {
                        changes.indexes.remove(index.name.as_str());
                    }
                    self.made_indexes.remove(&index);
                    self.dropped.insert(index);
                }
            }
            _ => {}
        }
    }

    /// Remembers that an UPDATE took the NULLs out of a column.
    pub fn learn_fill(&mut self, table: &TableName, column: &str, sql: &str) {
        self.changes.entry(table.clone()).or_default().filled.insert(column.to_owned(), sql.to_owned());
    }

    fn learn_rename(&mut self, rename: &node::RenameStmt, path: &[Ident]) {
        let Some(range) = &rename.relation else { return };
        let table = self.range(range, path);
        let (from, to) = (rename.subname.clone(), rename.newname.clone());
        match rename.rename_type() {
            node::ObjectType::ObjectColumn => {
                let sql_type = self.column_type(&table, &from);
                let not_null = Some(self.is_not_null(&table, &from));
                self.rename_seen(table.clone(), &from, &to);
                let changes = self.changes.entry(table).or_default();
                for now in changes.constraints.values_mut().flatten() {
                    let names = now.key.iter_mut().chain(now.not_null_of.iter_mut());
                    names.filter(|name| **name == from).for_each(|name| to.clone_into(name));
                }
                let indexed = changes.indexes.values_mut().flatten().flatten();
                indexed.filter(|name| **name == from).for_each(|name| to.clone_into(name));
                changes.columns.insert(from, None);
                changes.columns.insert(to, Some(ColumnNow { sql_type, not_null }));
            }
            node::ObjectType::ObjectTabconstraint => {
                let now = self.constraint(&table, &from);
                let changes = self.changes.entry(table).or_default();
                changes.constraints.insert(from, None);
                changes.constraints.insert(to, now);
            }
            node::ObjectType::ObjectIndex => {
                // By now it is known by its new name.
                let renamed = TableName { schema: table.schema.clone(), name: Ident::new(to.as_str()) };
                let Some(changes) = self.changes_with_index(&renamed) else { return };
                if let Some(columns) = changes.indexes.remove(table.name.as_str()) {
                    changes.indexes.insert(to, columns);
                }
            }
            _ => {}
        }
    }

    fn learn_function(&mut self, function: &node::CreateFunctionStmt) {
        let Some(name) = parse::strings(&function.funcname).pop() else { return };
        let written = function.options.iter().find_map(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) if option.defname == "volatility" => {
                match option.arg.as_ref()?.node.as_ref()? {
                    NodeEnum::String(text) => Some(text.sval.clone()),
                    _ => None,
                }
            }
            _ => None,
        });
        let volatility = match written.as_deref() {
            Some("immutable") => Volatility::Immutable,
            Some("stable") => Volatility::Stable,
            _ => Volatility::Volatile,
        };
        let known = self.functions.entry(name).or_insert(volatility);
        *known = (*known).max(volatility);
    }

    fn learn_command(&mut self, table: &TableName, command: &node::AlterTableCmd, path: &[Ident]) {
        let name = command.name.clone();
        match (command.subtype(), command.def.as_ref().and_then(|def| def.node.as_ref())) {
            (Type::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => {
                let sql_type = column.type_name.as_ref().and_then(SqlType::of);
                let not_null = Some(column.constraints.iter().any(says_not_null));
                self.set_column(table, &column.colname, Some(ColumnNow { sql_type, not_null }));
            }
            (Type::AtColumnDefault, _) => {
                let is_set = command.def.is_some();
                self.changes.entry(table.clone()).or_default().defaults.insert(name, is_set);
            }
            (Type::AtDropColumn, _) => {
                self.forget_parts_with(table, &name);
                self.set_column(table, &name, None);
            }
            (Type::AtAlterColumnType, Some(NodeEnum::ColumnDef(column))) => {
                let sql_type = column.type_name.as_ref().and_then(SqlType::of);
                let not_null = Some(self.is_not_null(table, &name));
                self.set_column(table, &name, Some(ColumnNow { sql_type, not_null }));
            }
            (Type::AtSetNotNull | Type::AtDropNotNull, _) => {
                let not_null = Some(command.subtype() == Type::AtSetNotNull);
                let sql_type = self.column_type(table, &name);
                self.set_column(table, &name, Some(ColumnNow { sql_type, not_null }));
            }
            (Type::AtAddConstraint, Some(NodeEnum::Constraint(constraint))) => {
                self.learn_constraint(table, constraint, path);
            }
            (Type::AtDropConstraint, _) => {
                self.changes.entry(table.clone()).or_default().constraints.insert(name, None);
            }
            (Type::AtValidateConstraint, _) => {
                if let Some(mut now) = self.constraint(table, &name) {
                    now.validated = true;
                    self.changes.entry(table.clone()).or_default().constraints.insert(name, Some(now));
                }
            }
            _ => {}
        }
    }

    fn set_column(&mut self, table: &TableName, column: &str, now: Option<ColumnNow>) {
        self.changes.entry(table.clone()).or_default().columns.insert(column.to_owned(), now);
    }

    pub(super) fn learn_constraint(
        &mut self,
        table: &TableName,
        constraint: &node::Constraint,
        path: &[Ident],
    ) {
        let Some(kind) = kind(constraint.contype()) else { return };
        let references = constraint.pktable.as_ref().map(|range| self.range(range, path));
        let validated = !constraint.skip_validation;
        let not_null_of = match kind {
            ConstraintKind::NotNull => parse::strings(&constraint.keys).pop(),
            ConstraintKind::Check => {
                constraint.raw_expr.as_ref().and_then(|expression| not_null_test(expression.node.as_ref()?))
            }
            _ => None,
        };
        let key = match kind {
            ConstraintKind::PrimaryKey | ConstraintKind::Unique if !constraint.indexname.is_empty() => {
                self.index_columns(table, &constraint.indexname).unwrap_or_default()
            }
            ConstraintKind::PrimaryKey | ConstraintKind::Unique => parse::strings(&constraint.keys),
            _ => Vec::new(),
        };
        let proved = if kind == ConstraintKind::PrimaryKey { key.as_slice() } else { not_null_of.as_slice() };
        if kind != ConstraintKind::Check {
            for column in proved {
                let sql_type = self.column_type(table, column);
                self.set_column(table, column, Some(ColumnNow { sql_type, not_null: Some(true) }));
            }
        }
        if !constraint.conname.is_empty() {
            let now = ConstraintNow { kind, validated, not_null_of, key, references, definition: None };
            let changes = self.changes.entry(table.clone()).or_default();
            changes.constraints.insert(constraint.conname.clone(), Some(now));
        }
    }
}

fn kind(kind: ConstrType) -> Option<ConstraintKind> {
    Some(match kind {
        ConstrType::ConstrCheck => ConstraintKind::Check,
        ConstrType::ConstrForeign => ConstraintKind::ForeignKey,
        ConstrType::ConstrPrimary => ConstraintKind::PrimaryKey,
        ConstrType::ConstrUnique => ConstraintKind::Unique,
        ConstrType::ConstrExclusion => ConstraintKind::Exclusion,
        ConstrType::ConstrNotnull => ConstraintKind::NotNull,
        _ => return None,
    })
}

fn as_seen(known: &Constraint) -> ConstraintNow {
    let not_null_of = match known.kind {
        ConstraintKind::Check if known.definition.contains("IS NOT NULL") => {
            let inner = known.definition.strip_prefix("CHECK (").and_then(|rest| rest.rsplit_once(')'));
            inner.and_then(|(text, _)| volatility::expression(text)?.node.as_ref().and_then(not_null_test))
        }
        ConstraintKind::NotNull => {
            let rest = known.definition.strip_prefix("NOT NULL ");
            let name = rest.map(|rest| {
                rest.split(" NOT VALID").next().unwrap_or(rest).split(" NO INHERIT").next().unwrap_or(rest)
            });
            name.map(|name| name.trim_matches('"').replace("\"\"", "\""))
        }
        _ => None,
    };
    ConstraintNow {
        kind: known.kind,
        validated: known.validated,
        not_null_of,
        key: Vec::new(),
        references: known.references.clone(),
        definition: Some(known.definition.clone()),
    }
}

/// The column of `c is not null`.
fn not_null_test(tree: &NodeEnum) -> Option<String> {
    let NodeEnum::NullTest(test) = tree else { return None };
    if test.nulltesttype() != node::NullTestType::IsNotNull || test.argisrow {
        return None;
    }
    match test.arg.as_ref()?.node.as_ref()? {
        NodeEnum::ColumnRef(column) => parse::strings(&column.fields).pop(),
        _ => None,
    }
}

fn says_not_null(item: &node::Node) -> bool {
    matches!(&item.node, Some(NodeEnum::Constraint(constraint))
        if matches!(constraint.contype(), ConstrType::ConstrNotnull | ConstrType::ConstrPrimary))
}
