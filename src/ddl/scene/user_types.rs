//! Types that were seen on the database, and the columns that still have them.

use super::Scene;
use crate::{
    facts::{TypeKind, UserType},
    pg::name::{Ident, TableName},
};

impl<'a> Scene<'a> {
    /// The columns that use a type, as (table, column).
    pub fn columns_of(&self, user_type: &'a UserType) -> Vec<(&'a TableName, &'a Ident)> {
        user_type
            .used_by
            .iter()
            .filter(|used| !self.is_gone(&used.relation))
            .flat_map(|used| used.columns.iter().map(|column| (&used.relation, column)))
            .filter(|(table, column)| {
                !self.around.columns_gone.contains(&((*table).clone(), column.as_str().to_owned()))
            })
            .collect()
    }

    /// A type seen on the database, by its name as written and the search path.
    pub fn user_type(&self, parts: &[String], path: &[Ident]) -> Option<&'a UserType> {
        let types = &self.live?.objects.types;
        let named = |schema: &str, name: &str| {
            types.iter().find(|one| one.name.schema.as_str() == schema && one.name.name.as_str() == name)
        };
        match parts {
            [name] => path.iter().find_map(|schema| named(schema.as_str(), name)),
            [.., schema, name] => named(schema, name),
            [] => None,
        }
    }

    /// The tables made OF a composite type.
    pub fn typed_tables(&self, user_type: &'a UserType) -> &'a [TableName] {
        if user_type.kind == TypeKind::Composite { &user_type.typed_tables } else { &[] }
    }

    /// A column is gone or gets another type.
    pub(super) fn leave_type(&mut self, (table, column): (TableName, String)) {
        let seen = self.around.seen_names.remove(&(table.clone(), column.clone())).unwrap_or(column);
        self.around.columns_gone.insert((table, seen));
    }

    /// A column has another name from here on.
    pub(super) fn rename_seen(&mut self, table: TableName, from: &str, to: &str) {
        let seen = self.around.seen_names.remove(&(table.clone(), from.to_owned()));
        self.around.seen_names.insert((table, to.to_owned()), seen.unwrap_or_else(|| from.to_owned()));
    }
}
