//! Clone blue's schema to green, before any row is there.

use super::{Notes, Standing, Step, StepId, world::World};
use crate::copy::{made, pg_dump, schema};
use crate::error::Result;
use crate::plan::Side;
use async_trait::async_trait;
use std::time::Duration;

/// Clones with pg_dump, in one transaction on green.
///
/// # Crash
/// All of it is there, with the record of what was made, or nothing is.
#[derive(Debug, Clone)]
pub struct CloneSchema;

/// For pg_dump, and again for loading its output.
const DEADLINE: Duration = Duration::from_secs(600);

#[async_trait]
impl Step<World> for CloneSchema {
    fn id(&self) -> StepId {
        StepId::new("prepare/clone-schema")
    }

    fn title(&self) -> String {
        "Clone blue's schema to green with pg_dump".into()
    }

    fn shows(&self) -> Vec<String> {
        vec!["pg_dump --schema-only <blue>, loaded into green in one transaction".into()]
    }

    fn locks(&self) -> String {
        "blue: ACCESS SHARE on every table while pg_dump reads the catalog".into()
    }

    fn deadline(&self) -> String {
        format!("{} s", DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let green = world.client(Side::Green).await?;
        let there = made::is_recorded(&green, schema::LABEL).await?;
        Ok(if there { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let pg_dump = pg_dump::find(world.blue_facts.major()).await?;
        let spec = schema::CloneSpec { epoch: world.epoch, deadline: DEADLINE };
        schema::clone(&pg_dump, &world.blue_info, &world.green_info, spec, &world.ears).await?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let green = world.client(Side::Green).await?;
        made::drop_all(&green, schema::LABEL, world.epoch).await
    }
}
