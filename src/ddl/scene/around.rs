//! What stands around the tables of a database: foreign keys both ways, views, partitions, checks; and what earlier statements
//! of the plan took away from it or added to it.

use super::Scene;
use crate::{
    ddl::parse::{
        self, NodeEnum,
        node::{self, AlterTableType, ConstrType, ObjectType},
    },
    facts::{Bound, Constraint, ConstraintKind, Partitioned, Table, View},
    pg::name::{Ident, TableName},
};
use std::collections::{BTreeMap, BTreeSet};

/// What earlier statements changed about tables in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    constraints_gone: BTreeSet<(TableName, String)>,
    triggers_gone: BTreeSet<(TableName, String)>,
    triggers_made: BTreeSet<(TableName, String)>,
    /// Columns that have no longer the type they were seen with, by the names they were seen with.
    pub(super) columns_gone: BTreeSet<(TableName, String)>,
    /// Columns with another name than they were seen with: that one.
    pub(super) seen_names: BTreeMap<(TableName, String), String>,
    pub(super) detached: BTreeSet<TableName>,
    /// Indexes made parts of the index of a partitioned table, with that one.
    attached_indexes: BTreeMap<TableName, TableName>,
    /// Constraints made here on tables in use.
    made: BTreeMap<(TableName, String), Made>,
    /// Indexes made here on tables in use, by (schema, name).
    indexes: BTreeMap<TableName, node::IndexStmt>,
}

/// A constraint made by this plan.
#[derive(Debug, Clone)]
struct Made {
    constraint: node::Constraint,
    proved: bool,
}

impl<'a> Scene<'a> {
    /// Whether a constraint that was seen is still there.
    pub fn has_constraint(&self, table: &TableName, constraint: &Ident) -> bool {
        !self.around.constraints_gone.contains(&(table.clone(), constraint.as_str().to_owned()))
    }

    /// A view or materialized view seen on the database and still there.
    pub fn view(&self, name: &TableName) -> Option<&'a View> {
        self.live?.objects.views.iter().find(|view| view.name == *name && !self.is_gone(name))
    }

    /// The views that read a relation (or a column of it), and those that read these, in an order in which they can be dropped.
    pub fn views_on(&self, relation: &TableName, column: Option<&str>) -> Vec<&'a View> {
        fn visit<'a>(
            scene: &Scene<'a>,
            relation: &TableName,
            column: Option<&str>,
            found: &mut Vec<&'a View>,
        ) {
            let Some(live) = scene.live else { return };
            let needs = |view: &&View| {
                view.reads.iter().any(|read| {
                    read.relation == *relation
                        && column.is_none_or(|column| read.columns.iter().any(|name| name.as_str() == column))
                })
            };
            for view in live.objects.views.iter().filter(needs) {
                if scene.is_gone(&view.name) || found.iter().any(|seen| seen.name == view.name) {
                    continue;
                }
                visit(scene, &view.name, None, found);
                found.push(view);
            }
        }
        let mut found = Vec::new();
        visit(self, relation, column, &mut found);
        found
    }

    /// Whether an index is a part of the index of a partitioned table.
    pub fn is_attached(&self, index: &TableName) -> bool {
        self.around.attached_indexes.contains_key(index)
            || self.index(index).is_some_and(|(_, index)| index.parent.is_some())
    }

    /// The leaves below an index of a partitioned table that this plan made: their tables and indexes.
    pub fn parts_made(&self, whole: &TableName) -> Vec<(TableName, TableName)> {
        let mut leaves = Vec::new();
        for (part, _) in self.around.attached_indexes.iter().filter(|(_, of)| *of == whole) {
            let below = self.parts_made(part);
            match self.made_indexes.get(part) {
                Some(table) if below.is_empty() => leaves.push((table.clone(), part.clone())),
                _ => leaves.extend(below),
            }
        }
        leaves
    }

    /// Whether this plan made a unique index over plain columns and all rows of a relation.
    pub fn has_unique_index(&self, relation: &TableName) -> bool {
        !self.unique_indexes_made(relation).is_empty()
    }

    /// The unique indexes over plain columns and all rows of a relation that this plan made, with their columns.
    pub(super) fn unique_indexes_made(&self, relation: &TableName) -> Vec<(&str, Vec<String>)> {
        let plain = |item: &node::Node| match &item.node {
            Some(NodeEnum::IndexElem(element)) if element.expr.is_none() => Some(element.name.clone()),
            _ => None,
        };
        let made = self.made_indexes.iter().filter(|(_, on)| *on == relation);
        made.filter_map(|(name, _)| {
            let index = self.around.indexes.get(name)?;
            let columns: Option<Vec<String>> = index.index_params.iter().map(plain).collect();
            (index.unique && index.where_clause.is_none()).then_some((name.name.as_str(), columns?))
        })
        .collect()
    }

    /// The relations that a view reads, through other views too.
    pub fn read_by(&self, view: &View) -> BTreeSet<TableName> {
        let mut all = BTreeSet::new();
        let mut left: Vec<&TableName> = view.reads.iter().map(|read| &read.relation).collect();
        while let Some(relation) = left.pop() {
            if all.insert(relation.clone())
                && let Some(view) = self.view(relation)
            {
                left.extend(view.reads.iter().map(|read| &read.relation));
            }
        }
        all
    }

    /// The user triggers that run a function, as (table, trigger).
    pub fn triggers_of(&self, function: &TableName) -> Vec<(&'a TableName, &'a Ident)> {
        let Some(live) = self.live else { return Vec::new() };
        live.objects
            .triggers
            .iter()
            .filter(|trigger| trigger.function == *function && !self.dropped.contains(&trigger.table))
            .map(|trigger| (&trigger.table, &trigger.name))
            .filter(|(table, name)| {
                !self.around.triggers_gone.contains(&((*table).clone(), name.as_str().to_owned()))
            })
            .collect()
    }

    /// Whether a table may have triggers that its partitions have copies of: the user's, or a foreign key's.
    pub fn has_row_triggers(&self, table: &TableName) -> bool {
        let Some(live) = self.live else { return true };
        let refers = |key: &Constraint, of: &TableName| {
            key.kind == ConstraintKind::ForeignKey && (of == table || key.references.as_ref() == Some(table))
        };
        let is_foreign = |made: &Made| made.constraint.contype() == ConstrType::ConstrForeign;
        self.made_trigger(table)
            || self.around.made.values().any(is_foreign)
            || live.objects.triggers.iter().any(|trigger| trigger.table == *table)
            || live.tables.iter().any(|one| one.constraints.iter().any(|key| refers(key, &one.name)))
    }

    /// Whether a table has triggers of the user's.
    pub fn has_triggers(&self, table: &TableName) -> bool {
        let gone =
            |name: &Ident| self.around.triggers_gone.contains(&(table.clone(), name.as_str().to_owned()));
        let mut seen = self.live.into_iter().flat_map(|live| &live.objects.triggers);
        self.made_trigger(table) || seen.any(|trigger| trigger.table == *table && !gone(&trigger.name))
    }

    fn made_trigger(&self, table: &TableName) -> bool {
        self.around.triggers_made.iter().any(|(on, _)| on == table)
    }

    /// How a partitioned table is cut.
    pub fn partitioned(&self, table: &TableName) -> Option<&'a Partitioned> {
        self.live?.objects.partitioned.iter().find(|partitioned| partitioned.name == *table)
    }

    /// The DEFAULT partition of a table, when it is still one.
    pub fn default_partition(&self, table: &TableName) -> Option<&'a TableName> {
        let default = self.partitioned(table)?.default_partition.as_ref()?;
        (!self.around.detached.contains(default) && !self.dropped.contains(default)).then_some(default)
    }

    /// A partition's bound.
    pub fn bound(&self, partition: &TableName) -> Option<&'a Bound> {
        self.live?.objects.bounds.iter().find(|bound| bound.partition == *partition)
    }

    /// The partitioned table a table is a partition of, when it still is.
    pub fn parent(&self, table: &'a Table) -> Option<&'a TableName> {
        table
            .parent
            .as_ref()
            .filter(|_| table.is_partition && !self.around.detached.contains(&table.name))
            .filter(|parent| !self.dropped.contains(*parent))
    }

    /// The schemas that hold tables.
    pub fn schemas(&self) -> BTreeSet<Ident> {
        let seen = self.live.into_iter().flat_map(|live| &live.tables).map(|table| &table.name);
        seen.chain(&self.created).map(|name| name.schema.clone()).collect()
    }

    /// Whether a schema holds functions, types or anything else that is no table, view or sequence.
    pub fn holds_more_than_relations(&self, schema: &str) -> bool {
        self.live
            .is_some_and(|live| live.objects.crowded_schemas.iter().any(|crowded| crowded.as_str() == schema))
    }

    /// The statements that drop every view, table and sequence of a schema.
    pub fn relations_of_schema(&self, schema: &str) -> Vec<String> {
        let Some(live) = self.live else { return Vec::new() };
        let inside = |name: &TableName| name.schema.as_str() == schema && !self.dropped.contains(name);
        let views = live.objects.views.iter().filter(|view| inside(&view.name)).map(|view| {
            let kind = if view.materialized { "materialized view" } else { "view" };
            format!("drop {kind} if exists {} cascade", view.name)
        });
        // A partition goes with its table, when that goes too.
        let tables = live
            .tables
            .iter()
            .filter(|table| inside(&table.name) && !self.parent(table).is_some_and(inside))
            .map(|table| format!("drop table if exists {} cascade", table.name));
        let sequences = live
            .sequences
            .iter()
            .filter(|sequence| inside(&sequence.name) && sequence.owner.is_none())
            .map(|sequence| format!("drop sequence {}", sequence.name));
        views.chain(tables).chain(sequences).collect()
    }

    /// Whether a relation has a row security policy.
    pub fn has_policy(&self, table: &TableName) -> bool {
        self.live.is_some_and(|live| live.objects.policies.contains(table))
            || self.policies_made.contains(table)
    }

    /// The expressions of the CHECKs of a table that hold for every row.
    pub fn proved_checks(&self, table: &TableName) -> Vec<node::Node> {
        let live = self.live.and_then(|live| live.table(table));
        let seen = live.into_iter().flat_map(|table| &table.constraints).filter(|constraint| {
            constraint.kind == ConstraintKind::Check
                && constraint.validated
                && self.has_constraint(table, &constraint.name)
        });
        let made = self.around.made.iter().filter(|((on, _), made)| on == table && made.proved);
        seen.filter_map(|constraint| constraint_node(&constraint.definition))
            .chain(made.map(|(_, made)| made.constraint.clone()))
            .filter(|constraint| constraint.contype() == ConstrType::ConstrCheck)
            .filter_map(|constraint| constraint.raw_expr.map(|expression| *expression))
            .collect()
    }

    /// The constraints of a table, as trees: those seen and still there, and those made here.
    pub fn constraint_trees(&self, table: &TableName) -> Vec<(String, node::Constraint)> {
        let live = self.live.and_then(|live| live.table(table));
        let seen = live
            .into_iter()
            .flat_map(|table| &table.constraints)
            .filter(|constraint| self.has_constraint(table, &constraint.name))
            .filter_map(|constraint| {
                Some((constraint.name.as_str().to_owned(), constraint_node(&constraint.definition)?))
            });
        let made = self.around.made.iter().filter(|((on, _), _)| on == table);
        seen.chain(made.map(|((_, name), made)| (name.clone(), made.constraint.clone()))).collect()
    }

    pub(super) fn made_index_tree(&self, index: &TableName) -> Option<&node::IndexStmt> {
        self.around.indexes.get(index)
    }

    /// The index definitions of a table, as trees: those seen and those made here.
    pub fn index_trees(&self, table: &TableName) -> Vec<node::IndexStmt> {
        let live = self.live.and_then(|live| live.table(table));
        let seen = live.into_iter().flat_map(|table| &table.indexes).filter(|index| index.valid).filter_map(
            |index| match parse::parse_one(&index.definition).ok()? {
                NodeEnum::IndexStmt(tree) => Some(*tree),
                _ => None,
            },
        );
        let made = self.made_indexes.iter().filter(|(_, on)| *on == table);
        seen.chain(made.filter_map(|(name, _)| self.around.indexes.get(name).cloned())).collect()
    }
}

/// The tree of `pg_get_constraintdef`.
pub(in crate::ddl) fn constraint_node(definition: &str) -> Option<node::Constraint> {
    match parse::parse_one(&format!("alter table x add {definition}")).ok()? {
        NodeEnum::AlterTableStmt(alter) => match alter.cmds.into_iter().next()?.node? {
            NodeEnum::AlterTableCmd(command) => match command.def?.node? {
                NodeEnum::Constraint(constraint) => Some(*constraint),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// What an ATTACH PARTITION attaches.
fn attached(command: &node::Node) -> Option<&node::RangeVar> {
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    match command.def.as_ref()?.node.as_ref()? {
        NodeEnum::PartitionCmd(part) if command.subtype() == AlterTableType::AtAttachPartition => {
            part.name.as_ref()
        }
        _ => None,
    }
}

impl Scene<'_> {
    /// Remembers what a statement changes around tables in use.
    pub(super) fn learn_around(&mut self, tree: &NodeEnum, path: &[Ident]) {
        match tree {
            NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectTable => {
                let Some(range) = &alter.relation else { return };
                let table = self.range(range, path);
                for command in &alter.cmds {
                    if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                        self.learn_part(&table, command, path);
                    }
                }
            }
            NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectIndex => {
                let Some(range) = &alter.relation else { return };
                let whole = self.range(range, path);
                let parts = alter.cmds.iter().filter_map(attached).map(|part| self.range(part, path));
                let parts: Vec<(TableName, TableName)> = parts.map(|part| (part, whole.clone())).collect();
                self.around.attached_indexes.extend(parts);
            }
            NodeEnum::IndexStmt(index) if !index.idxname.is_empty() => {
                if let Some(range) = &index.relation {
                    let schema = self.range(range, path).schema;
                    let name = TableName { schema, name: Ident::new(&index.idxname) };
                    self.around.indexes.insert(name, (**index).clone());
                }
            }
            NodeEnum::CreatePolicyStmt(policy) => {
                if let Some(range) = &policy.table {
                    let table = self.range(range, path);
                    self.policies_made.insert(table);
                }
            }
            NodeEnum::CreateTrigStmt(create) => {
                let on = create.relation.as_ref().map(|range| self.range(range, path));
                self.around.triggers_made.extend(on.map(|on| (on, create.trigname.clone())));
            }
            NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectTrigger => {
                for (mut on, name) in super::dropped_of_table(drop) {
                    let table = on.pop().unwrap_or_default();
                    let table = self.resolve(&on.pop().unwrap_or_default(), &table, path);
                    let key = (table, name);
                    if !self.around.triggers_made.remove(&key) {
                        self.around.triggers_gone.insert(key);
                    }
                }
            }
            _ => {}
        }
    }

    fn learn_part(&mut self, table: &TableName, command: &node::AlterTableCmd, path: &[Ident]) {
        let key = (table.clone(), command.name.clone());
        match command.subtype() {
            AlterTableType::AtDropConstraint => self.forget_constraint(key),
            AlterTableType::AtDropColumn | AlterTableType::AtAlterColumnType => self.leave_type(key),
            AlterTableType::AtValidateConstraint => self.learn_proof(key),
            AlterTableType::AtAddConstraint => {
                if let Some(NodeEnum::Constraint(constraint)) =
                    command.def.as_ref().and_then(|def| def.node.as_ref())
                {
                    let constraint = (**constraint).clone();
                    // A key without an index makes one of its own name.
                    if matches!(constraint.contype(), ConstrType::ConstrPrimary | ConstrType::ConstrUnique) {
                        let name =
                            TableName { schema: table.schema.clone(), name: Ident::new(&constraint.conname) };
                        self.made_indexes.insert(name, table.clone());
                    }
                    let proved = !constraint.skip_validation && constraint.is_enforced;
                    let key = (table.clone(), constraint.conname.clone());
                    self.around.made.insert(key, Made { constraint, proved });
                }
            }
            AlterTableType::AtDetachPartition | AlterTableType::AtAttachPartition => {
                let Some(NodeEnum::PartitionCmd(part)) =
                    command.def.as_ref().and_then(|def| def.node.as_ref())
                else {
                    return;
                };
                if let Some(range) = &part.name {
                    let partition = self.range(range, path);
                    if command.subtype() == AlterTableType::AtDetachPartition {
                        self.around.detached.insert(partition);
                    } else {
                        self.around.detached.remove(&partition);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn forget_constraint(&mut self, key: (TableName, String)) {
        self.around.made.remove(&key);
        self.around.constraints_gone.insert(key);
    }

    /// A constraint has another name from here on.
    pub(super) fn rename_constraint(&mut self, table: TableName, from: &str, to: &str) {
        let key = (table, from.to_owned());
        let made = self.around.made.remove(&key).or_else(|| {
            let seen = self.live_table(&key.0)?.constraints.iter().find(|seen| seen.name.as_str() == from)?;
            Some(Made { constraint: constraint_node(&seen.definition)?, proved: seen.validated })
        });
        if let Some(made) = made {
            self.around.made.insert((key.0.clone(), to.to_owned()), made);
        }
        self.around.constraints_gone.insert(key);
    }

    /// A table has another name from here on.
    pub(super) fn rename_around(&mut self, from: &TableName, to: &TableName) {
        let now = |(on, name): (TableName, String)| (if on == *from { to.clone() } else { on }, name);
        let around = &mut self.around;
        around.made =
            std::mem::take(&mut around.made).into_iter().map(|(key, made)| (now(key), made)).collect();
        for names in [&mut around.constraints_gone, &mut around.triggers_gone, &mut around.triggers_made] {
            *names = std::mem::take(names).into_iter().map(now).collect();
        }
        let now = |name: TableName| if name == *from { to.clone() } else { name };
        let attached = std::mem::take(&mut around.attached_indexes);
        around.attached_indexes = attached.into_iter().map(|(part, whole)| (now(part), now(whole))).collect();
        if let Some(index) = around.indexes.remove(from) {
            around.indexes.insert(to.clone(), index);
        }
    }

    /// A constraint that was seen NOT VALID, or made here, holds for every row now.
    fn learn_proof(&mut self, key: (TableName, String)) {
        if let Some(made) = self.around.made.get_mut(&key) {
            made.proved = true;
            return;
        }
        let seen = self
            .live
            .and_then(|live| live.table(&key.0))
            .and_then(|table| table.constraints.iter().find(|constraint| constraint.name.as_str() == key.1));
        let definition = seen.map(|seen| seen.definition.trim_end_matches(" NOT VALID"));
        if let Some(constraint) = definition.and_then(constraint_node) {
            self.around.made.insert(key, Made { constraint, proved: true });
        }
    }
}
