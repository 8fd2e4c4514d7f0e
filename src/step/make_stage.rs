//! Make green's copies of the tables that are joined, before they are filled.

use super::{Notes, Standing, Step, StepId, world::World};
use crate::copy::made;
use crate::error::{Doing, Kind, Result};
use crate::mapping::{Joining, stage_schema};
use crate::pg::name::Ident;
use crate::plan::Side;
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Client;

/// Makes a schema of ours with a table for each table of blue that is joined: blue's columns and key, and the indexes that the
/// plan asks for.
///
/// # Crash
/// All of it is there, with the record of what was made, or nothing is.
#[derive(Debug, Clone)]
pub struct MakeStage {
    /// The joins.
    pub joinings: Vec<Arc<Joining>>,
    /// The schema.
    pub schema: Ident,
}

const LABEL: &str = "copies of tables that are joined";

#[async_trait]
impl Step<World> for MakeStage {
    fn id(&self) -> StepId {
        StepId::new("prepare/make-stage")
    }

    fn title(&self) -> String {
        let tables: usize = self.joinings.iter().map(|joining| joining.sources.len()).sum();
        format!("Make copies of {tables} tables on green, to join from")
    }

    fn shows(&self) -> Vec<String> {
        self.statements()
    }

    fn deadline(&self) -> String {
        "a lock is waited for 2 s at most".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let green = world.client(Side::Green).await?;
        let there = made::is_recorded(&green, LABEL).await?;
        Ok(if there { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let doing = || "cannot make copies of the joined tables on green".to_owned();
        let mut client = world.client(Side::Green).await?;
        let tx = world.transaction(&mut client, "make copies of the joined tables").await?;
        let before = made::look(tx.client()).await?;
        for sql in self.statements() {
            tx.batch_execute(&sql).await.doing(Kind::Server, doing).map_err(|error| {
                error.hint("green must have blue's types, and nothing else in that schema; `migrate rollback --all` takes all back")
            })?;
        }
        made::record(tx.client(), LABEL, &before).await?;
        tx.commit().await.doing(Kind::Server, doing)?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        drop_all(&*world.client(Side::Green).await?, world.epoch).await
    }
}

impl MakeStage {
    /// For the joins of a plan.
    pub fn new(plan: &str, joinings: Vec<Joining>) -> MakeStage {
        MakeStage { schema: stage_schema(plan), joinings: joinings.into_iter().map(Arc::new).collect() }
    }

    fn statements(&self) -> Vec<String> {
        let mut statements = vec![format!("create schema {}", self.schema)];
        for joining in &self.joinings {
            for source in &joining.sources {
                let name = source.stage.to_string();
                statements.push(Joining::make_stage(source, "table", &name));
                statements.extend(joining.index_stage(source, &name));
            }
        }
        statements
    }
}

/// Drops them, when nobody follows any more; nothing when there are none.
///
/// # Errors
/// As [`made::drop_all`].
pub async fn drop_all(green: &Client, epoch: i64) -> Result<()> {
    made::drop_all(green, LABEL, epoch).await
}
