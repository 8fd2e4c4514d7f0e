//! The names Postgres would choose for constraints and sequences, so that what we name is named as it would have been.

use crate::{
    ddl::{
        parse::{self, node},
        rules::index_name::object_name,
        scene::Scene,
    },
    pg::name::{Ident, TableName},
};
use node::ConstrType;
use std::{cell::RefCell, collections::BTreeSet};

/// Names for what belongs to one table.
pub(in crate::ddl) struct Names<'a> {
    scene: &'a Scene<'a>,
    table: TableName,
    taken: RefCell<BTreeSet<String>>,
}

impl<'a> Names<'a> {
    pub fn new(scene: &'a Scene<'a>, table: &TableName) -> Names<'a> {
        Names { scene, table: table.clone(), taken: RefCell::default() }
    }

    /// The name of a constraint: its own, or the one the server would choose.
    pub fn of(&self, constraint: &node::Constraint, column: Option<&str>) -> Ident {
        if !constraint.conname.is_empty() {
            return Ident::new(&constraint.conname);
        }
        let (middle, label) = stem(constraint, column);
        self.free(&middle, label)
    }

    /// The first of `t_middle_label`, `t_middle_label1`, … that nobody has.
    pub fn free(&self, middle: &str, label: &str) -> Ident {
        let schema = &self.table.schema;
        for nth in 0..1_000 {
            let label = if nth == 0 { label.to_owned() } else { format!("{label}{nth}") };
            let name = object_name(self.table.name.as_str(), middle, &label);
            let relation = TableName { schema: schema.clone(), name: Ident::new(&name) };
            let is_free = self.scene.is_free(&relation) && self.scene.is_free_constraint(schema, &name);
            if is_free && self.taken.borrow_mut().insert(name.clone()) {
                return Ident::new(name);
            }
        }
        Ident::new(object_name(self.table.name.as_str(), middle, label))
    }
}

/// The name a constraint has when nothing is in its way.
pub(in crate::ddl) fn plain(constraint: &node::Constraint, table: &TableName) -> String {
    if !constraint.conname.is_empty() {
        return constraint.conname.clone();
    }
    let (middle, label) = stem(constraint, None);
    object_name(table.name.as_str(), &middle, label)
}

/// What stands between the table's name and the label, and the label.
fn stem(constraint: &node::Constraint, column: Option<&str>) -> (String, &'static str) {
    let own = |names: &[node::Node]| match column {
        Some(column) => column.to_owned(),
        None => parse::strings(names).join("_"),
    };
    match constraint.contype() {
        ConstrType::ConstrPrimary => (String::new(), "pkey"),
        ConstrType::ConstrUnique => {
            let mut names = own(&constraint.keys);
            for name in parse::strings(&constraint.including) {
                names = format!("{names}_{name}");
            }
            (names, "key")
        }
        ConstrType::ConstrForeign => (own(&constraint.fk_attrs), "fkey"),
        ConstrType::ConstrNotnull => (own(&constraint.keys), "not_null"),
        _ => {
            // A CHECK of one column bears its name; of several, none.
            let tree = constraint.raw_expr.as_ref().and_then(|expression| expression.node.as_ref());
            let mut columns = tree.map(parse::columns).unwrap_or_default();
            let only = columns.pop().filter(|_| columns.is_empty());
            (only.unwrap_or_default(), "check")
        }
    }
}
