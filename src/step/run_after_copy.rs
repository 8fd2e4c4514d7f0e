//! Run a file of the vendor's on green's copy (`mode: snapshot`).

use super::{Notes, Standing, Step, StepId, arm_gate, world::World};
use crate::copy::made;
use crate::ddl::as_written;
use crate::engine::failpoint;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{
    connect,
    name::{Ident, TableName},
    trouble,
};
use crate::plan::{Side, load::SqlFile};
use async_trait::async_trait;
use tokio_postgres::{Client, Transaction};

/// Runs one file in one transaction of a session like anybody's: triggers, foreign keys and cascades do what they do for an
/// application. Green's gate lets this transaction pass and no other: it is opened and closed again inside, so that nobody
/// ever sees it open. Tables that the file makes have the gate from the moment on that they can be seen.
///
/// Revocations are captured meanwhile, so that blue need not keep its WAL for the hours that this may take.
///
/// # Crash
/// All of the file is there, with the record of what it made, or nothing is; it then runs again from its beginning. Taking
/// back drops what it made; what it changed of the clone goes with the clone.
#[derive(Debug, Clone)]
pub struct RunAfterCopy {
    /// Its place among the files, from 1.
    pub number: usize,
    /// The file.
    pub file: SqlFile,
}

/// An autovacuum that is in the way gives way; a session of somebody's may take a moment.
const LOCK_TIMEOUT: &str = "10min";

impl RunAfterCopy {
    fn label(&self) -> String {
        format!("after-copy {}", self.number)
    }
}

#[async_trait]
impl Step<World> for RunAfterCopy {
    fn id(&self) -> StepId {
        StepId::new(format!("replicate/run-after-copy-{}", self.number))
    }

    fn title(&self) -> String {
        format!("Run {} on green's copy, in one transaction", self.file.name)
    }

    fn shows(&self) -> Vec<String> {
        vec![format!("-- {}\n{}", self.file.name, self.file.text.trim_end())]
    }

    fn locks(&self) -> String {
        "green: as the SQL takes them; nobody uses green yet".into()
    }

    fn deadline(&self) -> String {
        format!("a lock is waited for {LOCK_TIMEOUT} at most; the SQL may take as long as it takes")
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let green = world.client(Side::Green).await?;
        let there = made::is_recorded(&green, &self.label()).await?;
        Ok(if there { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        world.start_capturing().await?;
        let mut session = session(world).await?;
        let tx = world.transaction(&mut session, "run the vendor's SQL").await?;
        tx.batch_execute(&format!("set local lock_timeout = '{LOCK_TIMEOUT}'"))
            .await
            .doing(Kind::Server, || "cannot set green's lock_timeout".into())?;
        let before = made::look(tx.client()).await?;
        let tables: Vec<u32> = tx
            .query_one(include_str!("../../sql/gate/list_tables.sql"), &[])
            .await
            .doing(Kind::Server, || "green's tables cannot be listed".into())?
            .get(0);
        pass_gate(&tx).await?;
        self.run(&tx).await?;
        close_gate(&tx).await?;
        let gated = arm_new_tables(&tx, &tables).await?;
        made::record(tx.client(), &self.label(), &before).await?;
        failpoint::hit(&format!("after-copy-{}:ran", self.number));
        tx.commit().await.doing(Kind::Server, || format!("cannot commit {} on green", self.file.name))?;
        Ok(Some(serde_json::json!({ "file": self.file.name, "new_tables": gated })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let green = world.client(Side::Green).await?;
        made::drop_all(&green, &self.label(), world.epoch).await
    }
}

impl RunAfterCopy {
    async fn run(&self, tx: &Transaction<'_>) -> Result<()> {
        look_up_names_in(tx, &Ident::new(as_written::FIRST_SCHEMA).to_string()).await?;
        for statement in as_written::statements(&self.file)? {
            tx.batch_execute(&statement.sql)
                .await
                .map_err(|error| self.refused(&statement.place.to_string(), error))?;
        }
        // What is deferred to the commit must happen while the gate lets us pass.
        tx.batch_execute("set constraints all immediate")
            .await
            .map_err(|error| self.refused(&self.file.name, error))?;
        tx.batch_execute("reset role")
            .await
            .doing(Kind::Server, || "cannot be ourselves again on green".into())?;
        look_up_names_in(tx, "''").await
    }

    /// A server that went away is tried again by whoever called; what green refuses is not.
    fn refused(&self, place: &str, error: tokio_postgres::Error) -> Error {
        let what = format!("green refuses {place}; nothing of {} was kept", self.file.name);
        let mut refused = Error::new(Kind::Server, what).source(error);
        if trouble::lost_a_server(&refused) {
            refused.what =
                format!("green went away while it ran {place}; nothing of {} was kept", self.file.name);
            return refused;
        }
        refused.kind = Kind::Request;
        refused.hint("the file is part of what was pinned. When green's rows are in its way, correct them there (`set session_replication_role = replica` gets past the gate) and run `migrate replicate` again; another file needs a fresh copy: `migrate rollback --all`")
    }
}

/// Whether a file has run: green's tables may be others then than those that were copied.
pub(super) async fn has_run(green: &Client) -> Result<bool> {
    let row = green
        .query_one(include_str!("../../sql/replicate/find_vendor.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot look whether the vendor's SQL has run".into())?;
    Ok(row.get(0))
}

/// A session with the settings that role and database give anybody, without their timeouts; it ends soon after we do, whatever it runs.
async fn session(world: &World) -> Result<Client> {
    let client = connect::connect(&world.green_info, "after copy").await?;
    client
        .batch_execute("reset all; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set client_min_messages = warning; set search_path = ''")
        .await
        .doing(Kind::Server, || "a session for the vendor's SQL cannot be prepared on green".into())?;
    // Not every system that a server runs on can do it; then a takeover ends the session.
    if let Err(error) = client.batch_execute("set client_connection_check_interval = '5s'").await {
        tracing::debug!(%error, "green does not look whether we are still there");
    }
    Ok(client)
}

/// Lets this transaction past green's closed gate, and nobody else.
pub(super) async fn pass_gate(tx: &Transaction<'_>) -> Result<()> {
    let passed = tx
        .execute(include_str!("../../sql/gate/pass_own.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot get past green's gate".into())?;
    if passed == 1 {
        return Ok(());
    }
    Err(Error::new(Kind::Stopped, "green's gate is open, so applications may have written there")
        .hint("somebody changed migrate.gate on green; `migrate rollback --all`, then begin again"))
}

async fn close_gate(tx: &Transaction<'_>) -> Result<()> {
    let closed = tx
        .execute(include_str!("../../sql/gate/close_own.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot close green's gate again".into())?;
    if closed == 1 {
        return Ok(());
    }
    Err(Error::new(Kind::Stopped, "green's gate is not as we left it")
        .hint("the SQL must leave schema migrate alone"))
}

/// Puts the gate's trigger on the tables that this transaction made; says on how many.
async fn arm_new_tables(tx: &Transaction<'_>, before: &[u32]) -> Result<usize> {
    let doing = || "cannot put the gate on new tables of green".to_owned();
    let rows = tx
        .query(include_str!("../../sql/gate/list_ungated.sql"), &[&before])
        .await
        .doing(Kind::Server, doing)?;
    for row in &rows {
        let table = TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("tbl"));
        tx.batch_execute(&arm_gate::create_trigger(&table)).await.doing(Kind::Server, doing)?;
    }
    Ok(rows.len())
}

async fn look_up_names_in(tx: &Transaction<'_>, schema: &str) -> Result<()> {
    tx.batch_execute(&format!("set local search_path = {schema}"))
        .await
        .doing(Kind::Server, || "cannot set green's search_path".into())
}
