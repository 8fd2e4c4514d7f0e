//! Compare joined rows inside the fence: what the query gives now for the rows that were changed last, and what green has. That
//! green's copies of blue's tables are as blue's own tables is compared beside, table by table.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{name::TableName, target};
use std::collections::BTreeMap;
use tokio_postgres::{Client, types::ToSql};

/// Compares the joined rows that changed rows of blue's tables concern; `keys` are those rows', by table, in text. Gives how many
/// were compared.
///
/// # Errors
/// [`Kind::Gate`] naming the first one that differs.
pub(super) async fn compare(
    world: &World,
    green: &Client,
    keys: &BTreeMap<&TableName, Vec<Vec<String>>>,
) -> Result<usize> {
    let mut compared = 0;
    for joining in &world.joinings {
        let changed: Vec<_> = joining
            .sources
            .iter()
            .filter_map(|source| Some((source, keys.get(&source.blue.name)?)))
            .collect();
        if changed.is_empty() {
            continue;
        }
        let joined = target::join(green, joining).await?;
        let statements = joining.statements(&joined, 0);
        for (source, keys) in changed {
            let sql = statements
                .as_ref()
                .and_then(|statements| statements.compare(source))
                .ok_or_else(|| Error::new(Kind::Bug, "a join cannot be read any more"))?;
            let columns: Vec<Vec<&str>> = (0..source.blue.key.len())
                .map(|at| keys.iter().filter_map(|key| key.get(at).map(String::as_str)).collect())
                .collect();
            let parameters: Vec<&(dyn ToSql + Sync)> =
                columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
            let rows = green.query(&sql, &parameters).await.doing(Kind::Deadline, || {
                format!("cannot compare joined rows of {} on green", joining.green.plain())
            })?;
            compared += rows.len();
            let differs = |row: &&tokio_postgres::Row| {
                row.get::<_, Option<&str>>("expected") != row.get::<_, Option<&str>>("actual")
            };
            if let Some(row) = rows.iter().find(differs) {
                let what = format!(
                    "the joined row {} of {} on green is not what the plan's query gives",
                    row.get::<_, &str>("key"),
                    joining.green.plain()
                );
                return Err(Error::new(Kind::Gate, what)
                    .hint("a `key` of the join may not name every row that a change concerns; blue stays open and nothing is lost: `migrate rollback --all`, and mend the plan"));
            }
        }
    }
    Ok(compared)
}
