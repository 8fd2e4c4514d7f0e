//! Take away, for the copy, what slows it down: indexes and constraints.

use super::{Notes, Standing, Step, StepId, mark, rebuild_objects, world::World};
use crate::copy::deferred;
use crate::error::{Doing, Kind, Result};
use crate::plan::Side;
use async_trait::async_trait;

/// Records primary keys, other indexes, foreign keys and checks of green's tables, and drops them.
///
/// # Crash
/// Record and drop are one transaction; doing it again finds nothing left to defer.
#[derive(Debug, Clone)]
pub struct DeferObjects;

const MARK: &str = "objects deferred";

#[async_trait]
impl Step<World> for DeferObjects {
    fn id(&self) -> StepId {
        StepId::new("prepare/defer-objects")
    }

    fn title(&self) -> String {
        "Drop secondary indexes and constraints of green's empty tables, to be rebuilt after the rows".into()
    }

    fn locks(&self) -> String {
        "green: ACCESS EXCLUSIVE on its own empty tables; nobody uses green yet".into()
    }

    fn deadline(&self) -> String {
        "a lock is waited for 30 s at most".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let tables = world.green_tables();
        let deferred = deferred::defer(&world.green_info, &tables, world.attempt.number, world.epoch).await?;
        mark::set(world, MARK).await?;
        Ok(Some(serde_json::json!({ "objects": deferred })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        rebuild_objects::rebuild(world).await?;
        let mut client = world.client(Side::Green).await?;
        let tx = world.transaction(&mut client, "forget the deferred objects").await?;
        tx.execute("delete from migrate.deferred_object where attempt = $1", &[&world.attempt.number])
            .await
            .doing(Kind::Server, || "cannot forget the deferred objects".into())?;
        tx.commit().await.doing(Kind::Server, || "cannot forget the deferred objects".into())?;
        drop(client);
        mark::clear(world, MARK).await
    }
}
