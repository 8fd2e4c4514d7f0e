//! Copy: a slot, and all rows of every table as they were at some moment after it.

use super::{
    Notes, Standing, Step, StepId, mark,
    rebuild_objects::{self, Means},
    slot,
    world::World,
};
use crate::copy::{
    builds::Builds,
    cutting::Chunking,
    deferred,
    empty::{self, Reach},
    ledger,
    rows::{self, CopySpec, CopyTable, CopyTotals},
    throttle::{HELD_MAX, Throttling},
};
use crate::error::Result;
use crate::pg::{lsn::Lsn, name::TableName};
use crate::plan::Side;
use crate::stream::watch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Creates the slot that green follows, and copies every table as of a moment of its own, which is written down with its
/// rows: the follower passes over what that moment saw. The slot comes first (a later one leaves a gap, hazard A4.5).
///
/// # Crash
/// The slot stays, and so does every table that is whole; the rest is copied by the next try. A slot that blue had to drop
/// begins all anew, and says so. Each table is emptied before it is filled, so nothing is there twice. Indexes of whole
/// tables are built beside; what is not built when we end, `rebuild-objects` builds.
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

const MARK: &str = "rows copied";

#[async_trait]
impl Step<World> for CopyRows {
    fn id(&self) -> StepId {
        id()
    }

    fn title(&self) -> String {
        "Create the slot, copy every table, and build indexes of tables that are whole".into()
    }

    fn shows(&self) -> Vec<String> {
        vec![
            "blue: create_replication_slot … logical pgoutput (snapshot 'nothing')".into(),
            "blue: copy <table> to stdout → green: copy <table> from stdin (freeze)".into(),
        ]
    }

    fn locks(&self) -> String {
        "blue: ACCESS SHARE on a table while it is copied, given back when somebody waits for it longer than a second; a snapshot as long as one table's copy; making the slot waits for open write transactions, and nobody waits for it".into()
    }

    fn deadline(&self) -> String {
        format!("{} s for the slot; the copy, as long as both sides move", slot::SLOT_DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.prove_lease().await?;
        let consistent_point = slot::open(world).await?;
        let (slot, publication) = (world.attempt.slot(), world.attempt.publication());
        let retained_max_bytes = world.plan.replicate.retained_wal_max.0;
        let copied = tokio::select! {
            copied = self.copy(world) => copied?,
            // Nobody reads the slot yet, and blue must not pay for a copy that takes too long.
            error = watch::guard(&world.blue_info, &slot, &publication, retained_max_bytes) => return Err(error),
        };
        mark::set(world, MARK).await?;
        let CopyTotals { tables, rows, bytes } = copied;
        Ok(Some(serde_json::json!(Copied { consistent_point, tables, rows, bytes })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        world.prove_lease().await?;
        mark::clear(world, MARK).await?;
        let tables = world.green_tables();
        let reach = match world.plan.schema.after_copy.is_empty() {
            true => Reach::These,
            false => Reach::AllThatRefer,
        };
        let green = world.client(Side::Green).await?;
        empty::forget(&green, &tables, reach, world.attempt.number, world.epoch).await?;
        drop(green);
        slot::close(world).await
    }
}

impl CopyRows {
    async fn copy(&self, world: &World) -> Result<CopyTotals> {
        let left = tables_left(world).await?;
        // What an earlier copy built of them, and left when it was cut, would slow this one down.
        deferred::defer(&world.green_info, &left, world.attempt.number, world.epoch).await?;
        let Means { crew, builds } = rebuild_objects::means(world).await?;
        let builds = Arc::new(Builds::open(&world.green_info, builds, left, world.ears.clone()).await?);
        let copying = async {
            let totals =
                rows::copy(self.spec(world, crew.streams, builds.clone()), world.ears.clone()).await?;
            builds.close();
            builds.work(crew.builders - crew.builders_beside).await?;
            Ok(totals)
        };
        let (totals, ()) = tokio::try_join!(copying, builds.work(crew.builders_beside))?;
        Ok(totals)
    }

    fn spec(&self, world: &World, workers: usize, builds: Arc<Builds>) -> CopySpec {
        let bytes = |name: &TableName| world.blue_facts.table(name).map_or(0, |table| table.heap_bytes);
        let chunks = &world.plan.replicate.chunks;
        CopySpec {
            blue: world.blue_info.clone(),
            green: world.green_info.clone(),
            tables: world
                .tables
                .iter()
                .map(|table| CopyTable {
                    blue: table.blue.clone(),
                    green: table.green.clone(),
                    columns: table.columns.clone(),
                    mapping: table.mapping.clone(),
                    bytes: bytes(&table.blue),
                    chunking: Chunking::of(chunks, &table.blue, bytes(&table.blue)),
                })
                .collect(),
            workers,
            attempt: world.attempt.number,
            epoch: world.epoch,
            builds,
            throttle: Throttling { limits: world.throttle.clone(), held_max: HELD_MAX },
        }
    }
}

/// The tables of green that an earlier try has not copied whole.
async fn tables_left(world: &World) -> Result<Vec<TableName>> {
    let whole = ledger::list_whole(&*world.client(Side::Green).await?, world.attempt.number).await?;
    if !whole.is_empty() {
        world.note(format!(
            "{} of {} tables are whole from an earlier copy, and stay",
            whole.len(),
            world.tables.iter().map(|table| &table.blue).collect::<BTreeSet<_>>().len()
        ));
    }
    let left = world.tables.iter().filter(|table| !whole.contains(&table.blue.plain()));
    let left: BTreeSet<&TableName> = left.map(|table| &table.green).collect();
    Ok(left.into_iter().cloned().collect())
}
