//! Materialized views: logical decoding does not carry them, so green computes its own.

use super::lease;
use crate::error::{Doing, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::{conninfo::ConnInfo, name::TableName};
use std::collections::BTreeSet;
use tokio_postgres::Client;

const LIST_MATERIALIZED_VIEWS: &str = include_str!("../../sql/copy/list_materialized_views.sql");

/// Refreshes those materialized views of green that are populated on blue, each after those it reads. Returns how many.
///
/// Doing it again refreshes them again: they are as old as the rows were then, so it comes once after the copy and once
/// when green is to be opened. What a view reads only inside a function is not known to the catalogs.
///
/// # Errors
/// [`Kind::Server`] naming the view; [`Kind::Lease`]. Those refreshed until then stay.
pub async fn refresh(blue: &ConnInfo, green: &ConnInfo, epoch: i64, ears: &Ears) -> Result<u64> {
    let on_blue = list(&lease::session(blue, "list materialized views", epoch).await?, "blue").await?;
    let populated: BTreeSet<&TableName> =
        on_blue.iter().filter(|view| view.populated).map(|view| &view.name).collect();
    let client = lease::session(green, "refresh materialized views", epoch).await?;
    let mut refreshed = 0;
    let on_green = list(&client, "green").await?;
    client
        // Functions in a view find what they name by the role's own search path.
        .batch_execute("reset search_path; set lock_timeout = '10min'")
        .await
        .doing(Kind::Server, || "a session for REFRESH cannot be prepared on green".into())?;
    for view in on_green.iter().filter(|view| populated.contains(&view.name)) {
        lease::begin(&client, epoch).await?;
        client
            .batch_execute(&format!("refresh materialized view {}", view.name))
            .await
            .doing(Kind::Server, || format!("{} cannot be refreshed on green", view.name.plain()))?;
        lease::commit(&client, "a materialized view").await?;
        refreshed += 1;
        ears.tell(Event::Note { text: format!("refreshed materialized view {}", view.name.plain()) });
    }
    Ok(refreshed)
}

struct View {
    name: TableName,
    populated: bool,
}

/// In an order in which each comes after those it reads.
async fn list(client: &Client, side: &str) -> Result<Vec<View>> {
    let rows = client
        .query(LIST_MATERIALIZED_VIEWS, &[])
        .await
        .doing(Kind::Server, || format!("{side}'s materialized views cannot be listed"))?;
    Ok(rows
        .iter()
        .map(|row| View {
            name: TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("view")),
            populated: row.get("populated"),
        })
        .collect())
}
