//! Compare the rows of a mapped table that were changed last: what green makes of blue's rows now, and what it has.

use super::compare_keys::{differs, wanted_rows};
use super::world::ReplicatedTable;
use crate::error::{Doing, Kind, Result};
use crate::mapping::{Fitted, Mapping, as_error};
use crate::pg::target;
use tokio_postgres::{Client, types::ToSql};

/// How many keys were compared, and how many could not be: blue's row is gone, and its key alone does not say
/// which row green had.
pub(super) struct Compared {
    pub keys: usize,
    pub left_out: usize,
}

/// Whose rows a table of green has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsOfGreen {
    /// Of one table of blue.
    OfOne,
    /// Of several: a key that one of them has no row for may be another's.
    OfSeveral,
}

/// Compares the rows under `keys`, blue's keys in text.
///
/// # Errors
/// [`Kind::Gate`] naming the first key that differs.
pub(super) async fn compare(
    blue: &Client,
    green: &Client,
    table: &ReplicatedTable,
    mapping: &Mapping,
    keys: &[Vec<String>],
    rows_of_green: RowsOfGreen,
) -> Result<Compared> {
    let shape = target::read(green, &table.green).await?;
    let fitted = mapping.fit(&shape).map_err(|problems| as_error(&table.blue, &problems))?;
    let found = read_blue(blue, table, &fitted, keys).await?;
    let by_key_alone = fitted
        .key
        .iter()
        .flat_map(|at| &fitted.outputs[*at].uses)
        .all(|at| table.key.contains(&fitted.sources[*at].name));
    let (mut compared, mut there) = (Vec::new(), Vec::new());
    let mut cells: Vec<Vec<Option<String>>> = vec![Vec::new(); fitted.sources.len()];
    for (key, row) in keys.iter().zip(found) {
        if row.is_none() && !by_key_alone {
            continue;
        }
        there.push(row.is_some());
        let row = row.unwrap_or_else(|| cells_of_key(table, &fitted, key));
        cells.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
        compared.push(key);
    }
    let mut parameters: Vec<&(dyn ToSql + Sync)> =
        cells.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    parameters.push(&there);
    let rows = green
        .query(&fitted.compare(), &parameters)
        .await
        .doing(Kind::Deadline, || format!("cannot compare rows of {} on green", table.green.plain()))?;
    let mut others = 0;
    for row in &rows {
        let expected: Option<&str> = row.get("expected");
        if expected.is_none() && rows_of_green == RowsOfGreen::OfSeveral {
            others += 1;
            continue;
        }
        if expected != row.get::<_, Option<&str>>("actual") {
            let at = usize::try_from(row.get::<_, i64>("at") - 1).unwrap_or(usize::MAX);
            return Err(differs(table, compared.get(at).map(|key| key.as_slice()).unwrap_or_default()));
        }
    }
    let compared = compared.len() - others;
    Ok(Compared { keys: compared, left_out: keys.len() - compared })
}

/// Blue's rows, as cells of the mapping's sources; in the order of the keys.
async fn read_blue(
    blue: &Client,
    table: &ReplicatedTable,
    fitted: &Fitted,
    keys: &[Vec<String>],
) -> Result<Vec<Option<Vec<Option<String>>>>> {
    // As the type itself writes it, which a cast to text does not always do.
    let cell = |name| format!("case when t.{name} is not null then pg_catalog.format('%s', t.{name}) end");
    let cells: Vec<_> = fitted.sources.iter().map(|source| cell(&source.name)).collect();
    let select = format!("array[{}]::text[]", cells.join(", "));
    let rows = wanted_rows(blue, &table.blue, table, &select, keys)
        .await
        .doing(Kind::Deadline, || format!("cannot compare rows of {} on blue", table.blue.plain()))?;
    let mut found = vec![None; keys.len()];
    for row in &rows {
        let at = usize::try_from(row.get::<_, i64>("at") - 1).unwrap_or(usize::MAX);
        if let Some(place) = found.get_mut(at) {
            *place = Some(row.get("row"));
        }
    }
    Ok(found)
}

fn cells_of_key(table: &ReplicatedTable, fitted: &Fitted, key: &[String]) -> Vec<Option<String>> {
    let cell = |name| table.key.iter().position(|column| column == name).and_then(|at| key.get(at).cloned());
    fitted.sources.iter().map(|source| cell(&source.name)).collect()
}
