//! Rebuild, after the rows, what was taken away before them; and fill materialized views.

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::copy::{
    crew::{self, Crew, GreenSettings, Machine},
    rebuild::{self, Extent, RebuildSpec},
};
use crate::error::Result;
use crate::plan::Side;
use async_trait::async_trait;

/// Rebuilds indexes and constraints, biggest first, several at once. Foreign keys are added without proof: tables are of
/// different moments of blue until green has caught up ([`super::prove_keys`]).
///
/// # Crash
/// Each object is marked as rebuilt once it is; doing it again builds the rest, and drops INVALID leftovers first.
#[derive(Debug, Clone)]
pub struct RebuildObjects;

const MARK: &str = "objects rebuilt";

#[async_trait]
impl Step<World> for RebuildObjects {
    fn id(&self) -> StepId {
        StepId::new("replicate/rebuild-objects")
    }

    fn title(&self) -> String {
        "Rebuild indexes and constraints on green; foreign keys are not proved yet".into()
    }

    fn locks(&self) -> String {
        "green: as building indexes and constraints takes them; nobody uses green yet".into()
    }

    fn deadline(&self) -> String {
        "a lock is waited for 10 min at most".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let rebuilt =
            rebuild::rebuild(&world.green_info, means(world).await?.builds, Extent::Unproved, &world.ears)
                .await?;
        mark::set(world, MARK).await?;
        Ok(Some(serde_json::json!({ "objects": rebuilt })))
    }

    /// The objects stay: they do no harm, and the copy's undo empties the tables under them.
    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// Rebuilds whatever is recorded and not there, and proves foreign keys.
pub(super) async fn rebuild(world: &World) -> Result<u64> {
    rebuild::rebuild(&world.green_info, means(world).await?.builds, Extent::Whole, &world.ears).await
}

/// What the copy and the builds work with.
pub(super) struct Means {
    /// How many work on the copy.
    pub crew: Crew,
    /// How builds are done, in this step and beside the copy.
    pub builds: RebuildSpec,
}

/// Judges by what green tells of itself, and the plan.
pub(super) async fn means(world: &World) -> Result<Means> {
    let settings = GreenSettings::read(&*world.client(Side::Green).await?).await?;
    let replicate = &world.plan.replicate;
    let machine = Machine {
        own_cores: world.green_info.is_on_this_machine().then(crew::own_cores),
        worker_processes: settings.worker_processes,
    };
    let crew = Crew::of(replicate.workers, crew::own_cores(), machine);
    let builds = RebuildSpec {
        attempt: world.attempt.number,
        epoch: world.epoch,
        workers: crew.builders,
        memory_bytes: settings.build_bytes(replicate.build_memory.map(|size| size.0), crew.builders),
    };
    Ok(Means { crew, builds })
}
