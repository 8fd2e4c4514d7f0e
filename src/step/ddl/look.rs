//! What the catalog says of indexes, constraints and columns.

use super::super::Standing;
use crate::{
    ddl::statement::IndexShape,
    error::{Doing, Kind, Result},
    pg::name::{Ident, TableName},
};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Something with an index's name.
pub(super) struct Found {
    pub oid: u32,
    is_index: bool,
    table: TableName,
    pub valid: bool,
    unique: bool,
    method: String,
    partial: bool,
    keys: Vec<Option<Ident>>,
    pub definition: String,
}

/// What has this name.
pub(super) async fn find(client: &Client, index: &TableName) -> Result<Option<Found>> {
    let row = client
        .query_opt(
            include_str!("../../../sql/ddl/read_index.sql"),
            &[&index.schema.as_str(), &index.name.as_str()],
        )
        .await
        .doing(Kind::Server, || format!("cannot look for index {}", index.plain()))?;
    Ok(row.map(|row| {
        let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
        let keys: Vec<Option<String>> = row.get("keys");
        Found {
            oid: row.get("oid"),
            is_index: row.get("is_index"),
            table: TableName::new(text("table_schema"), text("table_name")),
            valid: row.get("is_valid"),
            unique: row.get("is_unique"),
            method: row.get("method"),
            partial: row.get("partial"),
            keys: keys.into_iter().map(|key| key.map(Ident::new)).collect(),
            definition: row.get("definition"),
        }
    }))
}

/// Whether the wanted index is there and valid. An INVALID one on the same table is as good as none: building drops it first.
pub(super) async fn index(client: &Client, shape: &IndexShape) -> Result<Standing> {
    let Some(found) = find(client, &shape.index).await? else { return Ok(Standing::Absent) };
    let conflict = |what: &str| {
        Ok(Standing::Conflict(format!("{} exists and is {what}: {}", shape.index.plain(), found.definition)))
    };
    if !found.is_index {
        return conflict("no index");
    }
    if found.table != shape.table {
        return conflict("an index of another table");
    }
    if !found.valid {
        return Ok(Standing::Absent);
    }
    let same = found.unique == shape.unique
        && found.method == shape.method
        && found.partial == shape.partial
        && found.keys == shape.keys;
    if same || shape.any_shape { Ok(Standing::Present) } else { conflict("another index") }
}

/// The identities of an index, or of a table's indexes, before they are rebuilt.
pub(super) async fn identities(client: &Client, relation: &TableName) -> Result<Value> {
    let oids: Vec<u32> = list(client, relation).await?.into_iter().map(|(oid, _)| oid).collect();
    Ok(json!({ "oids": oids }))
}

/// Whether every index is valid and another one than noted before.
pub(super) async fn rebuilt(client: &Client, relation: &TableName, prior: Option<Value>) -> Result<Standing> {
    let Some(prior) = prior.and_then(|prior| serde_json::from_value::<Vec<u32>>(prior["oids"].clone()).ok())
    else {
        return Ok(Standing::Absent);
    };
    let now = list(client, relation).await?;
    let done = now.iter().all(|(oid, valid)| *valid && !prior.contains(oid));
    Ok(if done { Standing::Present } else { Standing::Absent })
}

async fn list(client: &Client, relation: &TableName) -> Result<Vec<(u32, bool)>> {
    let rows = client
        .query(
            include_str!("../../../sql/ddl/list_indexes.sql"),
            &[&relation.schema.as_str(), &relation.name.as_str()],
        )
        .await
        .doing(Kind::Server, || format!("cannot list the indexes of {}", relation.plain()))?;
    Ok(rows.iter().map(|row| (row.get("oid"), row.get("is_valid"))).collect())
}

/// Whether a constraint is proved for all rows; `None` when there is none of the name.
pub(super) async fn constraint(client: &Client, table: &TableName, name: &Ident) -> Result<Option<bool>> {
    asked(client, include_str!("../../../sql/ddl/read_constraint.sql"), table, name).await
}

/// Whether a column is NOT NULL; `None` when there is none of the name.
pub(super) async fn not_null(client: &Client, table: &TableName, column: &Ident) -> Result<Option<bool>> {
    asked(client, include_str!("../../../sql/ddl/read_not_null.sql"), table, column).await
}

async fn asked(client: &Client, sql: &str, table: &TableName, name: &Ident) -> Result<Option<bool>> {
    let row = client
        .query_opt(sql, &[&table.schema.as_str(), &table.name.as_str(), &name.as_str()])
        .await
        .doing(Kind::Server, || format!("cannot look at {} of {}", name.as_str(), table.plain()))?;
    Ok(row.map(|row| row.get(0)))
}
