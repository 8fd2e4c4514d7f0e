//! Extended statistics and the tables they are about: those seen, and what the statements so far made of them.

use super::Scene;
use crate::{
    ddl::parse::{
        self, NodeEnum,
        node::{self, ObjectType},
    },
    facts::ServerFacts,
    pg::name::{Ident, TableName},
};
use std::collections::BTreeMap;

/// The tables of extended statistics, by the names these have now.
pub(super) type Statistics = BTreeMap<TableName, TableName>;

/// Those of the database.
pub(super) fn seen(live: Option<&ServerFacts>) -> Statistics {
    let seen = live.into_iter().flat_map(|live| &live.objects.statistics);
    seen.map(|statistics| (statistics.name.clone(), statistics.table.clone())).collect()
}

impl Scene<'_> {
    /// The table that extended statistics are about, when we know of them.
    pub fn table_of_statistics(&self, schema: &str, name: &str, path: &[Ident]) -> Option<&TableName> {
        self.statistics.get(&self.statistics_named(schema, name, path)?)
    }

    fn statistics_named(&self, schema: &str, name: &str, path: &[Ident]) -> Option<TableName> {
        if !schema.is_empty() {
            return Some(TableName::new(schema, name));
        }
        let mut candidates =
            path.iter().map(|schema| TableName { schema: schema.clone(), name: Ident::new(name) });
        candidates.find(|name| self.statistics.contains_key(name))
    }

    /// Remembers what a statement does to extended statistics.
    pub(super) fn learn_statistics(&mut self, tree: &NodeEnum, path: &[Ident]) {
        match tree {
            NodeEnum::CreateStatsStmt(create) => self.make_statistics(create, path),
            NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectStatisticExt => {
                for (schema, name) in super::dropped_names(drop) {
                    if let Some(name) = self.statistics_named(&schema, &name, path) {
                        self.statistics.remove(&name);
                    }
                }
            }
            NodeEnum::DropStmt(drop)
                if matches!(drop.remove_type(), ObjectType::ObjectTable | ObjectType::ObjectMatview) =>
            {
                for (schema, name) in super::dropped_names(drop) {
                    let table = self.resolve(&schema, &name, path);
                    self.statistics.retain(|_, about| *about != table);
                }
            }
            NodeEnum::RenameStmt(rename) if rename.rename_type() == ObjectType::ObjectStatisticExt => {
                self.move_statistics(rename.object.as_deref(), path, |from| TableName {
                    schema: from.schema.clone(),
                    name: Ident::new(&rename.newname),
                });
            }
            NodeEnum::AlterObjectSchemaStmt(moved)
                if moved.object_type() == ObjectType::ObjectStatisticExt =>
            {
                self.move_statistics(moved.object.as_deref(), path, |from| TableName {
                    schema: Ident::new(&moved.newschema),
                    name: from.name.clone(),
                });
            }
            _ => {}
        }
    }

    fn make_statistics(&mut self, create: &node::CreateStatsStmt, path: &[Ident]) {
        let mut tables = create.relations.iter().filter_map(|item| match &item.node {
            Some(NodeEnum::RangeVar(range)) => Some(self.range(range, path)),
            _ => None,
        });
        let mut parts = parse::strings(&create.defnames);
        // Without a name the server chooses one.
        if let (Some(name), Some(table)) = (parts.pop(), tables.next()) {
            let first = || path.first().map_or("public", Ident::as_str).to_owned();
            let name = TableName::new(parts.pop().unwrap_or_else(first), name);
            self.statistics.entry(name).or_insert(table);
        }
    }

    fn move_statistics(
        &mut self,
        object: Option<&node::Node>,
        path: &[Ident],
        to: impl Fn(&TableName) -> TableName,
    ) {
        let Some(NodeEnum::List(list)) = object.and_then(|object| object.node.as_ref()) else { return };
        let mut parts = parse::strings(&list.items);
        let name = parts.pop().unwrap_or_default();
        let Some(from) = self.statistics_named(&parts.pop().unwrap_or_default(), &name, path) else { return };
        if let Some(table) = self.statistics.remove(&from) {
            self.statistics.insert(to(&from), table);
        }
    }
}
