//! Arm the gate: the trigger through which every writer of a table passes.

use super::{Notes, Standing, Step, StepId, run_after_copy, world::World};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use crate::plan::Side;
use async_trait::async_trait;
use std::time::Duration;
use tokio_postgres::GenericClient;

/// Installs `migrate_gate` on every replicated relation of a side, parents and leaves.
///
/// A statement trigger of a partitioned table does not fire for a write straight to a leaf, and the other way round,
/// so both get one. Creating a trigger takes SHARE ROW EXCLUSIVE for an instant, which writers wait for: each table
/// in a transaction of its own, with a short lock timeout and a bounded number of tries.
///
/// Blue's fires ALWAYS: `session_replication_role = replica` (a restore, a script of the superuser's) must not write
/// past a fence. Green's fires for ordinary sessions only, since that role is how the follower gets in.
///
/// # Crash
/// Some tables are armed; applying again arms the rest. An armed, open gate costs a writer 0.3 to 0.5 ms.
#[derive(Debug, Clone)]
pub struct ArmGate {
    /// Where.
    pub side: Side,
    /// Every relation an application may write to.
    pub tables: Vec<TableName>,
}

const TRIES: u32 = 20;
const LOCK_TIMEOUT: &str = "500ms";

impl ArmGate {
    fn create(&self, table: &TableName) -> String {
        let create = create_trigger(table);
        match self.side {
            Side::Blue => format!("{create}; alter table only {table} enable always trigger migrate_gate"),
            Side::Green => create,
        }
    }

    fn drop(table: &TableName) -> String {
        format!("drop trigger if exists migrate_gate on {table}")
    }

    async fn on_each(
        &self,
        world: &World,
        doing: &str,
        tables: &[TableName],
        sql: impl Fn(&TableName) -> String,
    ) -> Result<()> {
        let mut client = world.client(self.side).await?;
        for table in tables {
            let mut tried = 0;
            loop {
                tried += 1;
                let tx = world.transaction(&mut client, doing).await?;
                tx.batch_execute(&format!("set local lock_timeout = '{LOCK_TIMEOUT}'"))
                    .await
                    .doing(Kind::Server, || format!("cannot {doing} on {table}"))?;
                match tx.batch_execute(&sql(table)).await {
                    Ok(()) => {
                        tx.commit().await.doing(Kind::Server, || format!("cannot {doing} on {table}"))?;
                        break;
                    }
                    Err(error)
                        if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
                            && tried < TRIES =>
                    {
                        drop(tx);
                        tokio::time::sleep(jittered(tried)).await;
                    }
                    Err(error) => {
                        return Err(Error::new(
                            Kind::Deadline,
                            format!(
                                "cannot {doing} on {} of {} after {tried} tries",
                                table.plain(),
                                self.side
                            ),
                        )
                        .hint(
                            "a long transaction holds a lock on the table; `select * from pg_locks` names it",
                        )
                        .source(error));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Puts the gate's trigger on a table, for ordinary sessions.
pub(super) fn create_trigger(table: &TableName) -> String {
    format!(
        "create or replace trigger migrate_gate before insert or update or delete or truncate on {table} \
         for each statement execute function migrate.gate_check()"
    )
}

/// Every table of a side that has the gate's trigger, under its name of now.
pub(super) async fn list_armed<C: GenericClient>(client: &C) -> Result<Vec<TableName>> {
    let rows = client
        .query(include_str!("../../sql/gate/list_armed.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot list the tables with the gate".into())?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// How many of these tables exist.
async fn count_there<C: GenericClient>(client: &C, tables: &[TableName]) -> Result<usize> {
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    let there: i64 = client
        .query_one(include_str!("../../sql/gate/count_there.sql"), &[&names])
        .await
        .doing(Kind::Server, || "cannot look for the tables with the gate".into())?
        .get(0);
    Ok(usize::try_from(there).unwrap_or_default())
}

/// How many of these tables have the gate's trigger, enabled as [`ArmGate`] does it on that side and unchanged.
///
/// # Errors
/// [`Kind::Server`] when the side cannot be asked.
pub async fn count_armed<C: GenericClient>(client: &C, side: Side, tables: &[TableName]) -> Result<usize> {
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    let enabled = match side {
        Side::Blue => "A",
        Side::Green => "O",
    };
    let armed: i64 = client
        .query_one(include_str!("../../sql/gate/count_armed.sql"), &[&names, &enabled])
        .await
        .doing(Kind::Server, || format!("cannot look at the gate on {side}"))?
        .get(0);
    Ok(usize::try_from(armed).unwrap_or_default())
}

/// Waits longer after each try, and never in step with an application's own retry.
fn jittered(tried: u32) -> Duration {
    Duration::from_millis(u64::from(50 * tried.min(10)) + rand::random_range(0..50))
}

#[async_trait]
impl Step<World> for ArmGate {
    fn id(&self) -> StepId {
        StepId::new(match self.side {
            Side::Blue => "arm/gate-blue",
            Side::Green => "prepare/close-green",
        })
    }

    fn title(&self) -> String {
        match self.side {
            Side::Blue => format!("Put the gate's trigger on {} tables of blue, open", self.tables.len()),
            Side::Green => format!("Put the gate's trigger on {} tables of green, closed", self.tables.len()),
        }
    }

    fn shows(&self) -> Vec<String> {
        self.tables.iter().map(|table| self.create(table)).collect()
    }

    fn locks(&self) -> String {
        format!(
            "{}: SHARE ROW EXCLUSIVE on one table after the other, for a moment: writers wait, readers do not",
            self.side
        )
    }

    fn deadline(&self) -> String {
        format!("a lock is waited for {LOCK_TIMEOUT} at most, {TRIES} tries a table")
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let client = world.client(self.side).await?;
        let armed = count_armed(&*client, self.side, &self.tables).await?;
        let is_whole = if self.side == Side::Green && run_after_copy::has_run(&client).await? {
            // The vendor's SQL may have dropped or renamed some; those that it made have the gate from it.
            armed == count_there(&*client, &self.tables).await?
        } else {
            armed == self.tables.len() && armed > 0
        };
        Ok(if is_whole { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        self.on_each(world, "arm the gate", &self.tables, |table| self.create(table)).await?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let tables = match self.side {
            Side::Blue => self.tables.clone(),
            // With those that the vendor's SQL has made or renamed.
            Side::Green => list_armed(&*world.client(Side::Green).await?).await?,
        };
        self.on_each(world, "disarm the gate", &tables, Self::drop).await
    }
}
