//! Copy: a slot, and all rows as they were at its snapshot.

use super::{Notes, Standing, Step, StepId, rebuild_objects, world::World};
use crate::copy::{
    builds::Builds,
    deferred, empty,
    rows::{self, CopySpec, CopyTable, CopyTotals},
};
use crate::error::{Doing, Kind, Result};
use crate::event::Event;
use crate::pg::{lsn::Lsn, name::TableName, replication::ReplicationConn};
use crate::plan::Side;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// Creates the slot that green follows, copies every table under the snapshot it exported, and writes down where
/// following begins.
///
/// One step, because the snapshot lives only as long as the connection that created the slot: a copy under any other
/// snapshot leaves a gap or an overlap (hazard A4.5).
///
/// # Crash
/// The progress row is written after the last table; without it the copy starts over with a new slot, and says so.
/// Each table is emptied in the transaction that fills it, so nothing is there twice. Indexes of whole tables are built
/// beside; what is not built when we end, `rebuild-objects` builds.
#[derive(Debug, Clone)]
pub struct CopyRows;

/// What the copy writes down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Copied {
    /// Where following begins.
    pub consistent_point: Lsn,
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes in COPY's format.
    pub bytes: u64,
}

/// The name of the copy, for [`Notes`].
pub fn id() -> StepId {
    StepId::new("replicate/copy-rows")
}

/// How long the slot may wait for open write transactions of blue's whole server.
const SLOT_DEADLINE: Duration = Duration::from_secs(60);

#[async_trait]
impl Step<World> for CopyRows {
    fn id(&self) -> StepId {
        id()
    }

    fn title(&self) -> String {
        "Create the slot, copy every table as of its snapshot, and build indexes of tables that are whole"
            .into()
    }

    fn shows(&self) -> Vec<String> {
        vec![
            "blue: create_replication_slot … logical pgoutput (snapshot 'export')".into(),
            "blue: copy <table> to stdout → green: copy <table> from stdin (freeze)".into(),
        ]
    }

    fn locks(&self) -> String {
        "blue: ACCESS SHARE on a table while it is copied, given back when somebody waits for it longer than a second; making the slot waits for open write transactions, and nobody waits for it".into()
    }

    fn deadline(&self) -> String {
        format!("{} s for the slot; the copy, as long as both sides move", SLOT_DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let green = world.client(Side::Green).await?;
        let row = green
            .query_opt("select from migrate.progress where slot = $1", &[&world.attempt.slot()])
            .await
            .doing(Kind::Server, || "cannot read green's progress".into())?;
        Ok(if row.is_some() { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let slot = world.attempt.slot();
        world.prove_lease().await?;
        say_if_starting_over(world).await?;
        // What an earlier copy built, and left when it was cut, would slow this one down.
        let tables: Vec<TableName> = world.tables.iter().map(|table| table.green.clone()).collect();
        deferred::defer(&world.green_info, &tables, world.attempt.number, world.epoch).await?;
        let mut conn = ReplicationConn::connect(&world.blue_info, "snapshot").await?;
        conn.drop_slot(&slot).await?;
        let created = conn.create_slot(&slot, SLOT_DEADLINE).await?;
        let crew = rebuild_objects::crew(world);
        let spec = rebuild_objects::spec(world);
        let builds = Builds::open(&world.green_info, spec, tables, world.ears.clone()).await?;
        let builds = Arc::new(builds);
        let copying = async {
            let spec = self.spec(world, created.snapshot, crew.streams, builds.clone());
            let totals = rows::copy(spec, world.ears.clone()).await?;
            // The snapshot is no longer needed; holding it would hold back blue's vacuum.
            drop(conn);
            let copied = self.begin_progress(world, created.consistent_point, totals).await?;
            builds.close();
            builds.work(crew.builders - crew.builders_beside).await?;
            Ok(copied)
        };
        let (copied, ()) = tokio::try_join!(copying, builds.work(crew.builders_beside))?;
        Ok(Some(serde_json::json!(copied)))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let slot = world.attempt.slot();
        world.prove_lease().await?;
        ReplicationConn::connect(&world.blue_info, "drop slot").await?.drop_slot(&slot).await?;
        let tables: Vec<TableName> = world.tables.iter().map(|table| table.green.clone()).collect();
        let mut client = world.client(Side::Green).await?;
        empty::forget(&client, &tables, world.attempt.number, world.epoch).await?;
        let tx = world.transaction(&mut client, "forget where following begins").await?;
        tx.execute("delete from migrate.progress where slot = $1", &[&slot])
            .await
            .doing(Kind::Server, || "cannot forget where following begins".into())?;
        tx.commit().await.doing(Kind::Server, || "cannot forget where following begins".into())
    }
}

impl CopyRows {
    async fn begin_progress(
        &self,
        world: &World,
        consistent_point: Lsn,
        totals: CopyTotals,
    ) -> Result<Copied> {
        let mut client = world.client(Side::Green).await?;
        let tx = world.transaction(&mut client, "write down where following begins").await?;
        tx.execute(
            include_str!("../../sql/replicate/begin_progress.sql"),
            &[&world.attempt.slot(), &consistent_point.to_string()],
        )
        .await
        .doing(Kind::Server, || "cannot write down where following begins".into())?;
        tx.commit().await.doing(Kind::Server, || "cannot write down where following begins".into())?;
        let CopyTotals { tables, rows, bytes } = totals;
        Ok(Copied { consistent_point, tables, rows, bytes })
    }

    fn spec(&self, world: &World, snapshot: String, workers: usize, builds: Arc<Builds>) -> CopySpec {
        let bytes = |name: &TableName| world.blue_facts.table(name).map_or(0, |table| table.heap_bytes);
        CopySpec {
            blue: world.blue_info.clone(),
            green: world.green_info.clone(),
            snapshot,
            tables: world
                .tables
                .iter()
                .map(|table| CopyTable {
                    blue: table.blue.clone(),
                    green: table.green.clone(),
                    columns: table.columns.clone(),
                    mapping: table.mapping.clone(),
                    bytes: bytes(&table.blue),
                })
                .collect(),
            workers,
            attempt: world.attempt.number,
            epoch: world.epoch,
            builds,
        }
    }
}

async fn say_if_starting_over(world: &World) -> Result<()> {
    let green = world.client(Side::Green).await?;
    let row = green
        .query_one(include_str!("../../sql/replicate/count_copied.sql"), &[&world.attempt.number])
        .await
        .doing(Kind::Server, || "cannot read the copy's ledger".into())?;
    let (begun, done): (i64, i64) = (row.get("begun"), row.get("done"));
    if begun > 0 {
        world.ears.tell(Event::Warning {
            text: format!(
                "an earlier copy was cut after {done} of {begun} tables; its snapshot is gone, so all are copied anew"
            ),
        });
    }
    Ok(())
}
