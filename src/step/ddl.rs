//! The steps of `migrate apply`: each runs one statement of the rewritten list on a live database.
//!
//! What shows that a step is done: a transactional statement writes a row into `migrate.manifest` in its own transaction, so
//! effect and record are one. A CONCURRENTLY form cannot; it is looked for in the catalog, and its manifest row, written
//! before, holds what was there (the definition of a dropped index, the identities of rebuilt ones). A change in batches keeps
//! in its row how far it came.

use super::{Notes, Standing, Step, StepId};
use crate::{
    ddl::statement::{Class, Online, Undo, Verify},
    error::{Doing, Error, Kind, Result},
    event::Listener,
    pg::name::TableName,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_postgres::Client;

mod backfill;
mod brief;
mod brownout;
mod build;
mod detach;
mod look;

pub use brownout::{Brownout, Waited};

/// What the steps need of the world they run in.
#[async_trait]
pub trait DdlWorld: Send + Sync {
    /// Opens a session of its own, with pinned settings, on the database the DDL runs on. Its name carries our epoch, so that
    /// a takeover ends it.
    async fn session(&self, purpose: &str) -> Result<Client>;

    /// Stops us when the lease is no longer ours. Inside a transaction it holds the lease until its end.
    async fn guard(&self, client: &Client) -> Result<()>;

    /// Who is told of progress, blockers and waiting.
    fn ears(&self) -> &dyn Listener;

    /// How long this run may make others wait, and how long it did.
    fn brownout(&self) -> &Brownout;
}

/// One statement of the rewritten list.
#[derive(Debug, Clone)]
pub struct DdlStep {
    online: Online,
    /// The later step after which this one's effect does not show any more: an index that is renamed or dropped again.
    until: Option<String>,
}

/// The steps of a rewritten list, in order.
pub fn steps(statements: &[Online]) -> Vec<DdlStep> {
    statements
        .iter()
        .enumerate()
        .map(|(at, online)| {
            let later = statements[at + 1..].iter().find(|later| hides(&later.verify, &online.verify));
            DdlStep { online: online.clone(), until: later.map(|later| later.id.clone()) }
        })
        .collect()
}

/// Whether a later effect hides an earlier one from the catalog.
fn hides(later: &Verify, earlier: &Verify) -> bool {
    match (earlier, later) {
        (Verify::IndexValid(shape), Verify::IndexAbsent { index }) => shape.index == *index,
        (Verify::IndexValid(shape), Verify::IndexRenamed { from, .. }) => shape.index == *from,
        (Verify::IndexAbsent { index }, Verify::IndexValid(shape)) => shape.index == *index,
        (Verify::IndexAbsent { index }, Verify::IndexRenamed { to, .. }) => index == to,
        (Verify::Rebuilt { relation, .. }, Verify::IndexAbsent { index }) => relation == index,
        _ => false,
    }
}

impl DdlStep {
    /// The statement.
    pub fn online(&self) -> &Online {
        &self.online
    }

    /// What an error of this step begins with.
    fn doing(&self) -> String {
        let from: Vec<String> = self.online.from.iter().map(ToString::to_string).collect();
        format!("cannot {} ({})", self.online.title, from.join(", "))
    }

    /// The manifest's row of this step, if there is one.
    async fn record(&self, client: &Client) -> Result<Option<Value>> {
        record_of(client, &self.online.id).await
    }

    /// Notes what is there before an effect that cannot be in one transaction with its record. The first note stays.
    async fn note_prior(&self, client: &Client, prior: Value) -> Result<()> {
        client
            .execute(
                "insert into migrate.manifest (object, prior) values ($1, $2) on conflict (object) do nothing",
                &[&self.online.id, &tokio_postgres::types::Json(prior)],
            )
            .await
            .doing(Kind::Server, || format!("{}: cannot note what was there", self.doing()))?;
        Ok(())
    }

    async fn forget(&self, client: &Client) -> Result<()> {
        client
            .execute("delete from migrate.manifest where object = $1", &[&self.online.id])
            .await
            .doing(Kind::Server, || format!("cannot forget step {}", self.online.id))?;
        Ok(())
    }

    async fn look(&self, client: &Client) -> Result<Standing> {
        let standing = match &self.online.verify {
            Verify::Recorded { valid } => self.look_record(client, valid.as_ref()).await?,
            Verify::ConstraintValid { table, constraint } => {
                self.look_proved(client, look::constraint(client, table, constraint).await?).await?
            }
            Verify::NotNull { table, column } => {
                self.look_proved(client, look::not_null(client, table, column).await?).await?
            }
            Verify::BatchesDone => match self.record(client).await? {
                Some(record) if record["done"] == true => Standing::Present,
                _ => Standing::Absent,
            },
            Verify::IndexRenamed { .. } | Verify::Ran => self.look_record(client, None).await?,
            Verify::Detached { parent, partition } => detach::look(client, parent, partition).await?,
            Verify::IndexValid(shape) => look::index(client, shape).await?,
            Verify::IndexAbsent { index } => match look::find(client, index).await? {
                None => Standing::Present,
                Some(_) => Standing::Absent,
            },
            Verify::Rebuilt { relation, .. } => {
                look::rebuilt(client, relation, self.record(client).await?).await?
            }
        };
        if standing != Standing::Present
            && let Some(later) = &self.until
            && record_of(client, later).await?.is_some()
        {
            return Ok(Standing::Present);
        }
        Ok(standing)
    }

    async fn look_record(&self, client: &Client, valid: Option<&TableName>) -> Result<Standing> {
        if self.record(client).await?.is_none() {
            return Ok(Standing::Absent);
        }
        if let Some(index) = valid {
            let found = look::find(client, index).await?;
            if found.is_some_and(|found| !found.valid) {
                return Ok(Standing::Conflict(format!(
                    "{} is not valid although every partition's index was attached: a partition was added meanwhile",
                    index.plain()
                )));
            }
        }
        Ok(Standing::Present)
    }

    /// By our record, and by the catalog as far as what was proved is still there.
    async fn look_proved(&self, client: &Client, proved: Option<bool>) -> Result<Standing> {
        let standing = self.look_record(client, None).await?;
        if standing == Standing::Present && proved == Some(false) {
            let what = format!(
                "our record says that it was done, but the catalog does not show it: {}",
                self.online.sql
            );
            return Ok(Standing::Conflict(what));
        }
        Ok(standing)
    }

    async fn undo_as(&self, world: &dyn DdlWorld, client: &Client, undo: &Undo) -> Result<()> {
        match undo {
            Undo::Nothing => self.forget(client).await,
            Undo::Brief { sql } => {
                let forget = "delete from migrate.manifest where object = $1";
                brief::run(world, self, sql, (forget, &[&self.online.id])).await.map(drop)
            }
            Undo::DropIndex { index } => {
                build::drop_index(world, client, index).await?;
                self.forget(client).await
            }
            Undo::RecreateIndex { index } => {
                let prior = self.record(client).await?;
                let definition = prior.as_ref().and_then(|prior| prior["definition"].as_str());
                // Without a note there was no index, and so there is nothing to bring back.
                if let Some(definition) = definition {
                    build::recreate(world, index, definition).await?;
                }
                self.forget(client).await
            }
        }
    }
}

async fn record_of(client: &Client, id: &str) -> Result<Option<Value>> {
    let row = client
        .query_opt("select prior from migrate.manifest where object = $1", &[&id])
        .await
        .doing(Kind::Server, || format!("cannot read the record of step {id}"))?;
    Ok(row.map(|row| row.get::<_, tokio_postgres::types::Json<Value>>(0).0))
}

#[async_trait]
impl<W: DdlWorld> Step<W> for DdlStep {
    fn id(&self) -> StepId {
        StepId::new(self.online.id.clone())
    }

    fn title(&self) -> String {
        self.online.title.clone()
    }

    fn shows(&self) -> Vec<String> {
        vec![self.online.sql.clone()]
    }

    async fn check(&self, world: &W, _: &Notes) -> Result<Standing> {
        self.look(&world.session("ddl look").await?).await
    }

    async fn apply(&self, world: &W, _: &Notes) -> Result<Option<Value>> {
        let waited = if self.online.class == Class::Concurrent {
            build::run(world, self).await?
        } else if let Some(plan) = &self.online.backfill {
            backfill::run(world, self, plan).await?
        } else {
            let record = "insert into migrate.manifest (object, prior) values ($1, '{}')";
            brief::run(world, self, &self.online.sql, (record, &[&self.online.id])).await?
        };
        let waited_ms = u64::try_from(waited.total.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(json!({ "sql": self.online.sql, "others_waited_ms": waited_ms })))
    }

    async fn undo(&self, world: &W, _: &Notes) -> Result<()> {
        let client = world.session("ddl undo").await?;
        world.guard(&client).await?;
        let begun = self.record(&client).await?.is_some();
        if !begun && self.look(&client).await? == Standing::Absent {
            return Ok(());
        }
        match &self.online.undo {
            Some(undo) => self.undo_as(world, &client, undo).await,
            None => Err(Error::new(Kind::Request, format!("`{}` cannot be taken back", self.online.title))
                .hint("undo it by hand if it must go, or go on with `migrate apply`")),
        }
    }
}
