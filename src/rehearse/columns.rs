//! Which tables get other columns by a statement.

use crate::error::{Doing, Kind, Result};
use crate::pg::name::TableName;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// The columns of every table and view, by oid: "name type", in order.
pub type Columns = BTreeMap<u32, (TableName, Vec<String>)>;

/// A table whose columns are others than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// By its name before.
    pub table: TableName,
    /// What became of it, to follow the table's name.
    pub what: String,
}

/// Reads them.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(client: &Client) -> Result<Columns> {
    let rows = client
        .query(include_str!("../../sql/rehearse/list_columns.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot read the tables' columns".into())?;
    Ok(rows
        .iter()
        .map(|row| {
            let name = TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name"));
            (row.get("oid"), (name, row.get("columns")))
        })
        .collect())
}

/// What changed of the tables that are in both.
pub fn compare(before: &Columns, after: &Columns) -> Vec<Change> {
    let mut changes = Vec::new();
    for (oid, (table, old)) in before {
        let Some((_, new)) = after.get(oid) else { continue };
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            of.iter().filter(|column| !from.contains(column)).cloned().collect()
        };
        let (lost, gained) = (missing(new, old), missing(old, new));
        let what = match (lost.is_empty(), gained.is_empty()) {
            (true, true) if old == new => continue,
            (true, true) => "has its columns in another order".to_owned(),
            (true, false) => format!("gets {}", gained.join(", ")),
            (false, true) => format!("loses {}", lost.join(", ")),
            (false, false) => format!("has {} instead of {}", gained.join(", "), lost.join(", ")),
        };
        changes.push(Change { table: table.clone(), what });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_table() {
        let columns = |list: &[&str]| {
            let list = list.iter().map(|one| (*one).to_owned()).collect();
            Columns::from([(1, (TableName::new("public", "t"), list))])
        };
        let told = |old: &[&str], new: &[&str]| {
            compare(&columns(old), &columns(new)).into_iter().map(|change| change.what).collect::<Vec<_>>()
        };
        assert!(told(&["a int"], &["a int"]).is_empty());
        assert_eq!(told(&["a int"], &["a int", "n text"]), ["gets n text"]);
        assert_eq!(told(&["a int", "b int"], &["b int"]), ["loses a int"]);
        assert_eq!(told(&["a int"], &["a bigint"]), ["has a bigint instead of a int"]);
        assert_eq!(told(&["a int", "b int"], &["b int", "a int"]), ["has its columns in another order"]);
    }
}
