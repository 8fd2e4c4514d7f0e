//! Prove foreign keys: possible once green holds one moment of blue.

use super::{Notes, Standing, Step, StepId, mark, rebuild_objects, world::World};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Side;
use async_trait::async_trait;
use std::time::Duration;

/// Follows blue until green has passed the moments of all tables, then validates foreign keys.
///
/// Each table is copied as of a moment of its own: a row may be on green before the row that it refers to. From the first
/// commit of blue's after the last of those moments on, green is as blue was at one moment, and stays so.
///
/// # Crash
/// Following goes on from green's progress; keys that were proved stay, and doing it again proves the rest.
#[derive(Debug, Clone)]
pub struct ProveKeys;

const MARK: &str = "foreign keys proved";

/// How long following may stand still before we give up; as long as it moves, a backlog may take as long as it takes.
const STILL_MAX: Duration = Duration::from_secs(120);

#[async_trait]
impl Step<World> for ProveKeys {
    fn id(&self) -> StepId {
        StepId::new("replicate/prove-keys")
    }

    fn title(&self) -> String {
        "Follow blue past the copy, and prove foreign keys on green".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["green: alter table <table> validate constraint <foreign key>".into()]
    }

    fn locks(&self) -> String {
        "green: SHARE UPDATE EXCLUSIVE on a table while its keys are proved; nobody uses green yet".into()
    }

    fn deadline(&self) -> String {
        format!("{} s without any progress of following", STILL_MAX.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.start_following().await?;
        follow_past_now(world).await?;
        let proved = rebuild_objects::rebuild(world).await?;
        mark::set(world, MARK).await?;
        Ok(Some(serde_json::json!({ "foreign_keys": proved })))
    }

    /// A key that was proved does no harm.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// Returns when green has all that blue has committed until now.
pub(super) async fn follow_past_now(world: &World) -> Result<()> {
    let marker = format!("copied {} {} {:08x}", world.attempt.number, world.epoch, rand::random::<u32>());
    world
        .client(Side::Blue)
        .await?
        .execute("select pg_logical_emit_message(true, 'migrate', $1)", &[&marker])
        .await
        .doing(Kind::Server, || "cannot write a marker into blue's log".into())?;
    let mut applied = None;
    loop {
        let follower = world.follower.lock().await;
        let Some(follower) = follower.as_ref() else {
            return Err(Error::new(Kind::Bug, "nobody follows blue"));
        };
        match follower.wait_for_marker(&marker, STILL_MAX).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == Kind::Deadline => {
                let now = Some(follower.status().borrow().applied);
                if now == applied {
                    return Err(error);
                }
                applied = now;
            }
            Err(error) => return Err(error),
        }
    }
}
