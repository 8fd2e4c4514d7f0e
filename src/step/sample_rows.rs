//! A few rows of a mapped table, before and after. They hold values as they are, so they are read only on request.

use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Fitted, Joining, Mapping, Staged, as_error};
use crate::pg::{
    name::{Ident, TableName},
    target,
};
use serde::Serialize;
use std::time::Duration;
use tokio_postgres::{Client, types::ToSql};

/// How long each side may take for a table.
const DEADLINE: Duration = Duration::from_secs(30);

/// Rows of a table of blue, and what its map makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// On blue.
    pub blue: TableName,
    /// On green.
    pub green: TableName,
    /// Of a joined table: the tables of blue that its query reads. Rows come of the query as blue itself evaluates it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joined_from: Vec<TableName>,
    /// Green has no such table yet, so that nothing is known of its types and of columns that it fills by itself.
    pub is_supposed: bool,
    /// The columns of blue that the map reads.
    pub columns_before: Vec<String>,
    /// The columns of green that it writes.
    pub columns_after: Vec<String>,
    /// The rows.
    pub rows: Vec<SampleRow>,
}

/// One row, value by value as the types write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleRow {
    /// Blue's.
    pub before: Vec<Option<String>>,
    /// Green's; none when the condition leaves the row out.
    pub after: Option<Vec<Option<String>>>,
}

/// Reads up to `rows` rows of blue's, the first it finds, and has green evaluate the map over them. Neither side is changed.
///
/// # Errors
/// [`Kind::Gate`] when the map does not fit, [`Kind::Server`] when an expression fails, [`Kind::Deadline`].
pub async fn sample(blue: &Client, green: &Client, mapping: &Mapping, rows: u32) -> Result<Sample> {
    let of = mapping.blue.name.plain();
    match tokio::time::timeout(DEADLINE, read(blue, green, mapping, rows)).await {
        Ok(sample) => sample,
        Err(_) => {
            Err(Error::new(Kind::Deadline, format!("no sample of {of} came within {} s", DEADLINE.as_secs()))
                .hint("look for a lock on it in blue's pg_locks"))
        }
    }
}

async fn read(blue: &Client, green: &Client, mapping: &Mapping, rows: u32) -> Result<Sample> {
    let mut shape = target::read(green, &mapping.map.target(&mapping.blue.name)).await?;
    let is_supposed = shape.columns.is_empty();
    if is_supposed {
        shape = mapping.supposed_green();
    }
    let fitted = mapping.fit_for_copy(&shape).map_err(|problems| as_error(&mapping.blue.name, &problems))?;
    let before = read_blue(blue, &fitted, rows).await?;
    let after = make_on_green(green, &fitted, &before).await?;
    let pair = |(before, after)| SampleRow { before, after };
    Ok(Sample {
        blue: fitted.blue.clone(),
        green: fitted.green.clone(),
        joined_from: Vec::new(),
        is_supposed,
        columns_before: fitted.sources.iter().map(|source| source.name.as_str().to_owned()).collect(),
        columns_after: fitted.outputs.iter().map(|output| output.name.as_str().to_owned()).collect(),
        rows: before.into_iter().zip(after).map(pair).collect(),
    })
}

/// Runs a join's query on blue, for up to `rows` of its rows; each comes with its key. Nothing is changed.
///
/// # Errors
/// As [`sample`].
pub async fn sample_joined(blue: &Client, joining: &Joining, rows: u32) -> Result<Option<Sample>> {
    let Some(first) = joining.sources.first() else { return Ok(None) };
    let of = joining.green.plain();
    let reading = async {
        let doing = || format!("blue cannot run the query of {of}");
        let on_blue = |source: &Staged| source.blue.name.to_string();
        let query = joining
            .query(&on_blue)
            .ok_or_else(|| Error::new(Kind::Plan, format!("the query of {of} cannot be read")))?;
        let given = target::given(blue, &query).await.doing(Kind::Server, doing)?;
        let texts = |names: Vec<&Ident>| {
            let text =
                |name| format!("case when q.{name} is not null then pg_catalog.format('%s', q.{name}) end");
            names.into_iter().map(text).collect::<Vec<_>>().join(", ")
        };
        let sql = format!(
            "select array[{}]::text[] as key, array[{}]::text[] as made from (\n{query}) as q limit {rows}",
            texts(joining.join.key.iter().collect()),
            texts(given.iter().map(|column| &column.name).collect()),
        );
        let found = blue.query(&sql, &[]).await.doing(Kind::Server, doing)?;
        let names = |names: Vec<&Ident>| names.into_iter().map(|name| name.as_str().to_owned()).collect();
        Ok(Some(Sample {
            blue: first.blue.name.clone(),
            green: joining.green.clone(),
            joined_from: joining.sources.iter().map(|source| source.blue.name.clone()).collect(),
            is_supposed: false,
            columns_before: names(joining.join.key.iter().collect()),
            columns_after: names(given.iter().map(|column| &column.name).collect()),
            rows: found
                .iter()
                .map(|row| SampleRow { before: row.get("key"), after: row.get("made") })
                .collect(),
        }))
    };
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(sample) => sample,
        Err(_) => {
            Err(Error::new(Kind::Deadline, format!("no sample of {of} came within {} s", DEADLINE.as_secs()))
                .hint("run the plan's query on blue by hand, for one key"))
        }
    }
}

async fn read_blue(blue: &Client, fitted: &Fitted, rows: u32) -> Result<Vec<Vec<Option<String>>>> {
    // As the type itself writes it, which a cast to text does not always do.
    let text = |name| format!("case when {name} is not null then pg_catalog.format('%s', {name}) end");
    let texts: Vec<_> = fitted.sources.iter().map(|source| text(&source.name)).collect();
    let sql = format!("select array[{}]::text[] from only {} limit {rows}", texts.join(", "), fitted.blue);
    let found = blue
        .query(&sql, &[])
        .await
        .doing(Kind::Server, || format!("cannot read rows of {} on blue", fitted.blue.plain()))?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

async fn make_on_green(
    green: &Client,
    fitted: &Fitted,
    rows: &[Vec<Option<String>>],
) -> Result<Vec<Option<Vec<Option<String>>>>> {
    let column = |at: usize| -> Vec<Option<&str>> {
        rows.iter().map(|row| row.get(at).and_then(Option::as_deref)).collect()
    };
    let columns: Vec<_> = (0..fitted.sources.len()).map(column).collect();
    let there = vec![true; rows.len()];
    let mut parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    parameters.push(&there);
    let made = green
        .query(&fitted.show(), &parameters)
        .await
        .doing(Kind::Server, || format!("green cannot evaluate the map of {}", fitted.blue.plain()))?;
    Ok(made.iter().map(|row| row.get(0)).collect())
}
