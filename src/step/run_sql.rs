//! Run the plan's SQL on green, while its tables are empty and nobody waits for a lock.

use super::{Notes, Standing, Step, StepId, world::World};
use crate::copy::made;
use crate::ddl::as_written;
use crate::error::{Doing, Kind, Result};
use crate::pg::name::Ident;
use crate::plan::{Side, load::SqlFile};
use async_trait::async_trait;
use tokio_postgres::Transaction;

/// Runs all files in order, in one transaction.
///
/// Nothing of it has to be online: green is closed and empty. A statement that cannot run in a transaction is
/// refused by Postgres, and then nothing of the files stays.
///
/// # Crash
/// All of it is there, with the record of what was made, or nothing is. Taking back drops what the files made;
/// what they changed on objects of the clone goes with the clone.
#[derive(Debug, Clone)]
pub struct RunSql {
    /// In order.
    pub files: Vec<SqlFile>,
    /// The views for clients of before it, made after it.
    pub views: Option<SqlFile>,
}

impl RunSql {
    fn all(&self) -> impl Iterator<Item = &SqlFile> {
        self.files.iter().chain(&self.views)
    }
}

const LABEL: &str = "the plan's SQL";

#[async_trait]
impl Step<World> for RunSql {
    fn id(&self) -> StepId {
        StepId::new("prepare/run-sql")
    }

    fn title(&self) -> String {
        let views = if self.views.is_some() { ", and make the views for old clients" } else { "" };
        format!("Run {} SQL files of the plan on green's empty tables{views}", self.files.len())
    }

    fn shows(&self) -> Vec<String> {
        self.all().map(|file| format!("-- {}\n{}", file.name, file.text.trim_end())).collect()
    }

    fn locks(&self) -> String {
        "green: as the SQL takes them; nobody uses green yet".into()
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
        let mut client = world.client(Side::Green).await?;
        let tx = world.transaction(&mut client, "run the plan's SQL").await?;
        let before = made::look(tx.client()).await?;
        for file in self.all() {
            run(&tx, file).await?;
        }
        look_up_names_in(&tx, "''").await?;
        made::record(tx.client(), LABEL, &before).await?;
        tx.commit().await.doing(Kind::Server, || "cannot commit the plan's SQL on green".into())?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let green = world.client(Side::Green).await?;
        made::drop_all(&green, LABEL, world.epoch).await
    }
}

/// Runs a file's statements. What it sets for its names ends with it.
async fn run(tx: &Transaction<'_>, file: &SqlFile) -> Result<()> {
    look_up_names_in(tx, &Ident::new(as_written::FIRST_SCHEMA).to_string()).await?;
    for statement in as_written::statements(file)? {
        tx.batch_execute(&statement.sql).await.doing(Kind::Request, || {
            format!("green refuses {}; nothing of the plan's SQL was kept", statement.place)
        })?;
    }
    Ok(())
}

async fn look_up_names_in(tx: &Transaction<'_>, schema: &str) -> Result<()> {
    tx.batch_execute(&format!("set local search_path = {schema}"))
        .await
        .doing(Kind::Server, || "cannot set green's search_path".into())
}
