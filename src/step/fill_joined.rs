//! Fill joined tables: possible once green holds one moment of blue, and before following goes on.

use super::{Notes, Standing, Step, StepId, mark, prove_keys, world::World};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::Joining;
use crate::pg::{connect, name::TableName, target};
use async_trait::async_trait;

/// Follows blue until green's copies have passed the moments at which they were read, stops following, and writes the joined
/// tables from them. From there on whoever follows keeps the joined rows, in the transactions that change the copies.
///
/// # Crash
/// The rows and the mark that they are there are one transaction, and a follower asks for the mark when it starts: so no change is
/// followed without its joined rows, nor counted twice.
#[derive(Debug, Clone)]
pub struct FillJoined {
    /// Green's tables.
    pub tables: Vec<TableName>,
}

const MARK: &str = "joined tables filled";

#[async_trait]
impl Step<World> for FillJoined {
    fn id(&self) -> StepId {
        StepId::new("replicate/fill-joined")
    }

    fn title(&self) -> String {
        format!("Follow blue past the copy, and fill {} joined tables", self.tables.len())
    }

    fn shows(&self) -> Vec<String> {
        let tables = self.tables.iter();
        tables
            .map(|table| format!("green: insert into {} select … from (<the plan's query>)", table))
            .collect()
    }

    fn deadline(&self) -> String {
        "as for foreign keys, which are proved next; then as long as green takes to write the rows".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if is_filled(world).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.start_following().await?;
        prove_keys::follow_past_now(world).await?;
        world.stop_following().await?;
        let copies: Vec<TableName> = world
            .joinings
            .iter()
            .flat_map(|joining| joining.sources.iter().map(|source| source.stage.clone()))
            .collect();
        crate::copy::analyze::analyze(&world.green_info, &copies, world.epoch, &world.ears).await?;
        let rows = fill(world).await?;
        world.start_following().await?;
        Ok(Some(serde_json::json!({ "rows": rows })))
    }

    /// The copy's undo empties the tables.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// Whether the joined tables are filled, so that following has to keep them.
pub(super) async fn is_filled(world: &World) -> Result<bool> {
    if world.joinings.is_empty() {
        return Ok(false);
    }
    mark::is_set(world, MARK).await
}

/// On a session of its own: it may take long, and acts as a replica.
async fn fill(world: &World) -> Result<u64> {
    let mut client = connect::connect(&world.green_info, "fill joined tables").await?;
    let tx = world.transaction(&mut client, "fill joined tables").await?;
    tx.batch_execute("set local session_replication_role = replica")
        .await
        .doing(Kind::Request, || "our role on green may not set session_replication_role".into())?;
    let mut rows = 0;
    for joining in &world.joinings {
        let doing = || format!("green refuses joined rows of {}", joining.green.plain());
        let joined = target::join(&tx, joining).await?;
        let sql = joining
            .fill(&joined, &Joining::staged)
            .ok_or_else(|| Error::new(Kind::Bug, "a join cannot be read any more"))?;
        // What an earlier fill left that was taken back.
        tx.execute(&format!("delete from {}", joining.green), &[]).await.doing(Kind::Server, doing)?;
        rows += tx.execute(&sql, &[]).await.map_err(|error| {
            Error::new(Kind::Server, doing())
                .hint("mend the rows on blue and replicate again; or `migrate rollback --all`, and mend the query: it gives one row for each key")
                .source(error)
        })?;
    }
    mark::set_in(&tx, world, MARK).await?;
    tx.commit().await.doing(Kind::Server, || "cannot fill the joined tables on green".into())?;
    world.note(format!("{rows} joined rows are written"));
    Ok(rows)
}

/// The joins that following has to keep.
pub(super) async fn to_keep(world: &World) -> Result<Vec<std::sync::Arc<Joining>>> {
    Ok(if is_filled(world).await? { world.joinings.clone() } else { Vec::new() })
}
