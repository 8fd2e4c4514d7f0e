//! Compare, inside the fence, the rows that were changed last: where a fault of the follower would show first.

use super::{
    compare_joined,
    compare_mapped::{self, RowsOfGreen},
    world::{ReplicatedTable, World},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::pg::name::{TableName, literal};
use crate::plan::Side;
use std::collections::BTreeMap;
use tokio_postgres::{Client, types::ToSql};

/// How many keys are compared.
pub const KEYS: usize = 1000;

/// Compares the rows under the last [`KEYS`] keys that the follower changed, and returns how many keys it looked at.
///
/// Both sides give each row as text, under the same pinned settings, so equal rows are equal text.
///
/// # Errors
/// [`Kind::Gate`] naming the first key that differs; the fence is not committed then.
pub async fn compare(world: &World) -> Result<usize> {
    let dirty = {
        let follower = world.follower.lock().await;
        follower.as_ref().map(|follower| follower.dirty_keys()).unwrap_or_default()
    };
    if dirty.is_empty() {
        world.ears.tell(Event::Warning {
            text: "0 keys are compared: no follower has changed a row since the copy, or none could write down which"
                .into(),
        });
    }
    let mut by_table: BTreeMap<&ReplicatedTable, Vec<Vec<String>>> = BTreeMap::new();
    for key in &dirty {
        // Of a table that is split, each part.
        for table in world.tables.iter().filter(|table| table.blue == key.table) {
            by_table.entry(table).or_default().push(key.key.clone());
        }
    }
    let blue = world.client(Side::Blue).await?;
    let green = world.client(Side::Green).await?;
    let (mut compared, mut left_out) = (0, 0);
    for (table, keys) in &by_table {
        if let Some(mapping) = &table.mapping {
            let of_green = world.tables.iter().filter(|other| other.green == table.green).count();
            let rows_of_green = if of_green > 1 { RowsOfGreen::OfSeveral } else { RowsOfGreen::OfOne };
            let outcome = compare_mapped::compare(&blue, &green, table, mapping, keys, rows_of_green).await?;
            compared += outcome.keys;
            left_out += outcome.left_out;
            continue;
        }
        compared += keys.len();
        let (on_blue, on_green) =
            tokio::try_join!(rows(&blue, table, Side::Blue, keys), rows(&green, table, Side::Green, keys))?;
        for (at, key) in keys.iter().enumerate() {
            if on_blue.get(&at) != on_green.get(&at) {
                return Err(differs(table, key));
            }
        }
    }
    let mut by_source: BTreeMap<&TableName, Vec<Vec<String>>> = BTreeMap::new();
    dirty.iter().for_each(|key| by_source.entry(&key.table).or_default().push(key.key.clone()));
    compared += compare_joined::compare(world, &green, &by_source).await?;
    if left_out > 0 {
        world.ears.tell(Event::Warning {
            text: format!(
                "{left_out} keys are not compared: blue has no row of them for green now, and the mapping makes green's key of more than blue's, or other tables have rows there, too"
            ),
        });
    }
    Ok(compared)
}

/// The error for a row that differs.
pub(super) fn differs(table: &ReplicatedTable, key: &[String]) -> Error {
    let what = format!("the row {} of {} differs between blue and green", key.join(", "), table.blue.plain());
    Error::new(Kind::Gate, what)
        .hint("blue stays open and nothing is lost; keep both databases as they are and report this")
}

/// The rows under `keys` as text, by the key's place in the list; a key without a row is left out.
async fn rows(
    client: &Client,
    table: &ReplicatedTable,
    side: Side,
    keys: &[Vec<String>],
) -> Result<BTreeMap<usize, String>> {
    let name = match side {
        Side::Blue => &table.blue,
        Side::Green => &table.green,
    };
    let row: Vec<String> = table.columns.iter().map(|column| format!("t.{column}")).collect();
    let found = wanted_rows(client, name, table, &format!("row({})::text", row.join(", ")), keys)
        .await
        .doing(Kind::Deadline, || format!("cannot compare rows of {} on {side}", name.plain()))?;
    Ok(found
        .iter()
        .map(|row| (usize::try_from(row.get::<_, i64>("at") - 1).unwrap_or(usize::MAX), row.get("row")))
        .collect())
}

/// For each key that has a row, its place in the list (`at`, from 1), and what is selected of the row `t` (`row`).
pub(super) async fn wanted_rows(
    client: &Client,
    name: &TableName,
    table: &ReplicatedTable,
    select: &str,
    keys: &[Vec<String>],
) -> std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    let columns: Vec<Vec<&str>> = (0..table.key.len())
        .map(|at| keys.iter().filter_map(|key| key.get(at).map(String::as_str)).collect())
        .collect();
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    client.query(&rows_sql(name, table, select), &parameters).await
}

/// The keys come as text. Each is turned into a value of its column's type, rather than the column into text, so
/// that the key's index is used.
fn rows_sql(name: &TableName, table: &ReplicatedTable, select: &str) -> String {
    let count = table.key.len();
    let parameters: Vec<String> = (1..=count).map(|at| format!("${at}::text[]")).collect();
    let wanted: Vec<String> = (1..=count).map(|at| format!("k{at}")).collect();
    let fields: Vec<String> = table
        .key
        .iter()
        .zip(&wanted)
        .map(|(column, text)| format!("{}, wanted.{text}", literal(column.as_str())))
        .collect();
    let joined: Vec<String> = table.key.iter().map(|column| format!("t.{column} = k.{column}")).collect();
    format!(
        "select wanted.at, {select} as row from unnest({}) with ordinality as wanted ({}, at) \
         cross join lateral jsonb_populate_record(null::{name}, jsonb_build_object({})) k join {name} t on {}",
        parameters.join(", "),
        wanted.join(", "),
        fields.join(", "),
        joined.join(" and "),
    )
}
