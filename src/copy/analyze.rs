//! Statistics for green's planner, before anybody queries it.

use super::lease;
use crate::error::{Doing, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::{conninfo::ConnInfo, name::TableName};

const LIST_ROOTS: &str = include_str!("../../sql/copy/list_roots.sql");

/// Runs ANALYZE on the tables, one after the other, and on the partitioned tables above them. Doing it again is harmless.
///
/// # Errors
/// [`Kind::Server`] naming the table; [`Kind::Lease`]. Statistics made until then stay.
pub async fn analyze(green: &ConnInfo, tables: &[TableName], epoch: i64, ears: &Ears) -> Result<()> {
    let client = lease::session(green, "analyze", epoch).await?;
    client
        .batch_execute("set lock_timeout = '10min'")
        .await
        .doing(Kind::Server, || "a session for ANALYZE cannot be prepared on green".into())?;
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let roots = client
        .query(LIST_ROOTS, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "green's tables cannot be listed".into())?;
    for row in &roots {
        let root = TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("tbl"));
        let total_bytes = u64::try_from(row.get::<_, i64>("bytes")).unwrap_or(0);
        lease::begin(&client, epoch).await?;
        client
            .batch_execute(&format!("analyze {root}"))
            .await
            .doing(Kind::Server, || format!("{} cannot be analyzed on green", root.plain()))?;
        lease::commit(&client, "statistics").await?;
        let subject = format!("statistics of {}", root.plain());
        ears.tell(Event::Progress { subject, rows: 0, bytes: total_bytes, total_bytes, done: true });
    }
    Ok(())
}
