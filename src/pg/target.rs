//! What a mapping must know of the table of green that it writes to.

use super::name::{Ident, TableName};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Given, GreenColumn, GreenTable, Joined, Joining, as_error};
use tokio_postgres::GenericClient;

const COLUMNS: &str = include_str!("../../sql/facts/read_target.sql");
const KEYS: &str = include_str!("../../sql/facts/read_target_keys.sql");
const EQUALITIES: &str = include_str!("../../sql/facts/read_equalities.sql");

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

/// The columns that a query gives, without running it.
///
/// # Errors
/// As green refuses it.
pub async fn given(
    green: &impl GenericClient,
    query: &str,
) -> std::result::Result<Vec<Given>, tokio_postgres::Error> {
    let statement = green.prepare(query).await?;
    let oids: Vec<u32> = statement.columns().iter().map(|column| column.type_().oid()).collect();
    let named = green
        .query_one(
            "select array(select pg_catalog.format_type(oid, null) from unnest($1::oid[]) with ordinality as t (oid, at) order by at)",
            &[&oids],
        )
        .await?;
    let types: Vec<String> = named.get(0);
    let given = |(column, type_name): (&tokio_postgres::Column, String)| Given {
        name: Ident::new(column.name()),
        type_name,
    };
    Ok(statement.columns().iter().zip(types).map(given).collect())
}

/// Holds a join against green as it is, its copies of blue's tables among it.
///
/// # Errors
/// [`Kind::Gate`] when it does not fit, [`Kind::Server`].
pub async fn join(green: &impl GenericClient, joining: &Joining) -> Result<Joined> {
    let table = read(green, &joining.green).await?;
    let look = joining
        .look(&Joining::staged)
        .ok_or_else(|| Error::new(Kind::Bug, "a join cannot be read any more"))?;
    let given = given(green, &look)
        .await
        .doing(Kind::Server, || format!("green refuses the query of {}", joining.green.plain()))?;
    let mut joined = joining.fit(&table, &given).map_err(|problems| as_error(&joining.green, &problems))?;
    let rows = green
        .query(EQUALITIES, &[&joining.compared_types(&joined)])
        .await
        .doing(Kind::Server, || "cannot look how green compares keys".into())?;
    joined.equalities = rows.iter().map(|row| (row.get("type_name"), row.get("equals"))).collect();
    Ok(joined)
}
