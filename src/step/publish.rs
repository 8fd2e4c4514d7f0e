//! Publish: say on blue which tables' changes are decoded.

use super::{Notes, Standing, Step, StepId, world::World};
use crate::error::{Doing, Kind, Result};
use crate::pg::name::{Ident, TableName};
use crate::plan::Side;
use async_trait::async_trait;

/// Creates a publication with an explicit list of tables, before any slot that reads it.
///
/// A slot older than its publication loses changes silently on 18 and is stuck on 15 (hazard A4.3). FOR ALL TABLES
/// would take in a new table without identity, whose updates would then fail on blue (A1.1).
#[derive(Debug, Clone)]
pub struct Publish {
    /// Which publication this is for: `replicate/publish-tables` or `capture/publish-tables`.
    pub id: StepId,
    /// Its name on blue.
    pub publication: String,
    /// Leaves and plain tables.
    pub tables: Vec<TableName>,
}

impl Publish {
    fn create(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(|table| format!("only {table}")).collect();
        format!("create publication {} for table {}", Ident::new(&self.publication), tables.join(", "))
    }
}

#[async_trait]
impl Step<World> for Publish {
    fn id(&self) -> StepId {
        self.id.clone()
    }

    fn title(&self) -> String {
        format!("Publish {} tables on blue", self.tables.len())
    }

    fn shows(&self) -> Vec<String> {
        vec![self.create()]
    }

    fn locks(&self) -> String {
        "blue: SHARE UPDATE EXCLUSIVE on each table for a moment: neither readers nor writers wait".into()
    }

    fn deadline(&self) -> String {
        "a lock is waited for 2 s at most".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let client = world.client(Side::Blue).await?;
        let row = client
            .query_opt(include_str!("../../sql/replicate/read_publication.sql"), &[&self.publication])
            .await
            .doing(Kind::Server, || "cannot look for our publication on blue".into())?;
        let Some(row) = row else { return Ok(Standing::Absent) };
        let mut published: Vec<String> = row.get("tables");
        let mut wanted: Vec<String> = self.tables.iter().map(TableName::plain).collect();
        published.sort_unstable();
        wanted.sort_unstable();
        if published == wanted && row.get::<_, bool>("all_changes") {
            Ok(Standing::Present)
        } else {
            Ok(Standing::Conflict(format!(
                "publication {} on blue holds other tables than the plan's",
                self.publication
            )))
        }
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "publish the tables").await?;
        tx.batch_execute(&self.create())
            .await
            .doing(Kind::Server, || "cannot publish the tables on blue".into())?;
        tx.commit().await.doing(Kind::Server, || "cannot publish the tables on blue".into())?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "drop our publication").await?;
        tx.batch_execute(&format!("drop publication if exists {}", Ident::new(&self.publication)))
            .await
            .doing(Kind::Server, || "cannot drop our publication on blue".into())?;
        tx.commit().await.doing(Kind::Server, || "cannot drop our publication on blue".into())
    }
}
