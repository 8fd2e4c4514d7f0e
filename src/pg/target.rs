//! What a mapping must know of the table of green that it writes to.

use super::name::{Ident, TableName};
use crate::error::{Doing, Kind, Result};
use crate::mapping::{GreenColumn, GreenTable};
use tokio_postgres::GenericClient;

const COLUMNS: &str = include_str!("../../sql/facts/read_target.sql");
const KEYS: &str = include_str!("../../sql/facts/read_target_keys.sql");

/// Reads it; without columns when there is no such table.
///
/// # Errors
/// [`Kind::Server`].
pub async fn read(green: &impl GenericClient, table: &TableName) -> Result<GreenTable> {
    let doing = || format!("cannot look at {} on green", table.plain());
    let name: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&table.schema.as_str(), &table.name.as_str()];
    let columns = green.query(COLUMNS, &name).await.doing(Kind::Server, doing)?;
    let keys = green.query(KEYS, &name).await.doing(Kind::Server, doing)?;
    let column = |row: &tokio_postgres::Row| GreenColumn {
        name: Ident::new(row.get::<_, String>("name")),
        type_name: row.get("type_name"),
        must_be_given: row.get("must_be_given"),
        generated: row.get("generated"),
        identity_always: row.get("identity_always"),
    };
    let key = |row: &tokio_postgres::Row| -> Vec<Ident> {
        row.get::<_, Vec<String>>("columns").into_iter().map(Ident::new).collect()
    };
    Ok(GreenTable { columns: columns.iter().map(column).collect(), unique: keys.iter().map(key).collect() })
}
