//! The end of the views for old clients: who is still sent to them, and taking them away.

use super::session;
use crate::ddl::compat;
use crate::engine::lease;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{conninfo::ConnInfo, name::Ident};
use crate::plan::{MigrationKind, Plan, Side};
use std::time::Duration;
use tokio_postgres::{Client, error::SqlState};

/// How often the locks on the views are asked for. A client's transaction that has used one is in the way.
const TRIES: u32 = 5;
/// Between two tries; each waits two seconds for its locks.
const PAUSE: Duration = Duration::from_secs(1);

/// The roles and databases whose settings still send clients to the views; nobody when there are none.
///
/// # Errors
/// [`Kind::Connect`], [`Kind::Server`].
pub async fn still_sent_there(plan: &Plan) -> Result<Vec<String>> {
    let (side, database) = match (&plan.kind, &plan.green) {
        (MigrationKind::BlueGreen, Some(green)) => (Side::Green, green),
        _ => (Side::Blue, &plan.blue),
    };
    let info = ConnInfo::parse(database.url.expose())?;
    let client = session::reach(side, &info, "finish").await?;
    if !is_there(&client, plan).await? {
        return Ok(Vec::new());
    }
    let rows = client
        .query(include_str!("../../sql/compat/list_pointed.sql"), &[&compat::schema(&plan.name).as_str()])
        .await
        .doing(Kind::Server, || "cannot look who is sent to the views for old clients".into())?;
    Ok(rows.iter().map(|row| row.get("who")).collect())
}

/// Drops the views of a plan and their schema; nothing when there are none, or a schema of the name is somebody else's.
///
/// # Errors
/// [`Kind::Gate`] when somebody has put something else into the schema, or lets something else rest on a view: then nothing
/// is dropped. [`Kind::Deadline`] when old clients use the views all the time. [`Kind::Lease`].
///
/// # Crash
/// One transaction: all of it is there, or nothing. Run it again.
pub async fn drop(client: &mut Client, plan: &Plan, epoch: i64) -> Result<()> {
    let schema = compat::schema(&plan.name);
    for nth in 1..=TRIES {
        match drop_once(client, plan, &schema, epoch).await? {
            Dropped::Done => return Ok(()),
            Dropped::InUse if nth < TRIES => tokio::time::sleep(PAUSE).await,
            Dropped::InUse => {}
        }
    }
    let what = format!("the views in {} are in use, so they could not be dropped", schema.as_str());
    Err(Error::new(Kind::Deadline, what)
        .hint("send the old clients away, or end their transactions, then run `migrate finish` again"))
}

/// How a try came out.
enum Dropped {
    Done,
    /// Somebody holds locks on them.
    InUse,
}

async fn drop_once(client: &mut Client, plan: &Plan, schema: &Ident, epoch: i64) -> Result<Dropped> {
    let doing = || format!("cannot drop the views for old clients in {}", schema.as_str());
    let tx = lease::transaction(client, epoch, "drop the views for old clients").await?;
    if !is_there(tx.client(), plan).await? {
        return Ok(Dropped::Done);
    }
    let mark = compat::mark_of(&plan.name);
    let made = tx
        .query(include_str!("../../sql/compat/list_made.sql"), &[&schema.as_str(), &mark])
        .await
        .doing(Kind::Server, doing)?;
    let mut sql = String::new();
    for row in &made {
        let name = Ident::new(row.get::<_, String>("name"));
        match row.get("kind") {
            "view" => sql.push_str(&format!("drop view {schema}.{name};\n")),
            _ => sql.push_str(&format!("drop function {schema}.{name}();\n")),
        }
    }
    // Without CASCADE: what is not ours stays, and with it everything.
    sql.push_str(&format!("drop schema {schema}"));
    if let Err(error) = tx.batch_execute(&sql).await {
        return match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Ok(Dropped::InUse),
            Some(code) if *code == SqlState::DEPENDENT_OBJECTS_STILL_EXIST => Err(not_ours(schema, error)),
            _ => Err(error).doing(Kind::Server, doing),
        };
    }
    tx.commit().await.doing(Kind::Server, doing)?;
    Ok(Dropped::Done)
}

fn not_ours(schema: &Ident, error: tokio_postgres::Error) -> Error {
    let detail = error.as_db_error().and_then(|db| db.detail()).unwrap_or_default().replace('\n', "; ");
    let what = format!("the views for old clients in {} were left: {detail}", schema.as_str());
    Error::new(Kind::Gate, what)
        .hint("somebody has put this there; move or drop it, then run `migrate finish` again")
        .source(error)
}

/// Whether the schema is there and says that it is ours.
async fn is_there(client: &Client, plan: &Plan) -> Result<bool> {
    let (schema, mark) = (compat::schema(&plan.name), compat::mark_of(&plan.name));
    let row = client
        .query_opt(include_str!("../../sql/compat/find_schema.sql"), &[&schema.as_str(), &mark])
        .await
        .doing(Kind::Server, || "cannot look for the views for old clients".into())?;
    Ok(row.is_some_and(|row| row.get("is_ours")))
}
