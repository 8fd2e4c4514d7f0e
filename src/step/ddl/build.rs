//! CONCURRENTLY forms: outside a transaction, never under a lock timeout, watched from a second session.
//!
//! A build that fails or is killed leaves an INVALID index, which slows writes and, if unique, still refuses rows. So what is
//! left of an earlier try is dropped before the next one, and after a failure.

use super::{
    DdlStep, DdlWorld,
    brief::{self, entered, tell_waited},
    brownout::{Waited, Watch, WhenSpent},
    detach, look,
};
use crate::{
    ddl::{Holds, statement::Verify},
    error::{Doing, Error, Kind, Result},
    event::Event,
    pg::name::TableName,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, error::SqlState};

/// How often a running build is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one build may take, its waiting included.
const BUILD_DEADLINE: Duration = Duration::from_secs(48 * 3_600);
/// Between tries after a deadlock.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs the step's statement until its effect is there; says what others waited for it.
///
/// # Errors
/// The server's error, with nothing INVALID of ours left behind if the server still answers.
pub(super) async fn run(world: &dyn DdlWorld, step: &DdlStep) -> Result<Waited> {
    let client = world.session("ddl build").await?;
    world.guard(&client).await?;
    note_prior(&client, step).await?;
    for nth in 1..=step.online.retry.tries.max(1) {
        if prepare(world, &client, step).await? {
            return Ok(Waited::default());
        }
        world.guard(&client).await?;
        client.batch_execute(&entered(Holds::Session, step)).await.doing(Kind::Server, || step.doing())?;
        let built = watched(world, &client, &step.online.title, &step.online.sql).await;
        let error = match built {
            Err(error) => error,
            Ok(waited) => {
                if step.online.verify == Verify::Ran {
                    step.note_prior(&client, json!({})).await?;
                }
                tell_done(world, step);
                tell_waited(world, step, waited);
                return Ok(waited);
            }
        };
        let again = error.code().is_some_and(|code| {
            *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::LOCK_NOT_AVAILABLE
        });
        if !again || nth == step.online.retry.tries {
            // A session that was ended cannot clean up; the next run does.
            if let Err(left) = prepare(world, &client, step).await {
                tracing::warn!(step = step.online.id, error = %left, "an INVALID index may be left behind");
            }
            return Err(error).doing(Kind::Server, || step.doing());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::new(Kind::Stopped, format!("{}: no try succeeded", step.doing()))
        .hint("run the same command again"))
}

async fn note_prior(client: &Client, step: &DdlStep) -> Result<()> {
    let prior = match &step.online.verify {
        Verify::IndexAbsent { index } => match look::find(client, index).await? {
            Some(found) => json!({ "definition": found.definition }),
            None => return Ok(()),
        },
        Verify::Rebuilt { relation, .. } => look::identities(client, relation).await?,
        Verify::Ran => return Ok(()),
        _ => json!({}),
    };
    step.note_prior(client, prior).await
}

/// Clears what an earlier try left. `true` when somebody's build that was still running has made the effect meanwhile.
async fn prepare(world: &dyn DdlWorld, client: &Client, step: &DdlStep) -> Result<bool> {
    match &step.online.verify {
        Verify::IndexValid(shape) => {
            wait_for_builders(world, client, &shape.index).await?;
            if let Some(found) = look::find(client, &shape.index).await? {
                if found.valid {
                    return Ok(true);
                }
                drop_index(world, client, &shape.index).await?;
            }
        }
        Verify::Detached { parent, partition } => {
            return detach::finish(world, client, step, parent, partition).await;
        }
        Verify::Rebuilt { relation, .. } => {
            let rows = client
                .query(
                    include_str!("../../../sql/ddl/list_leftovers.sql"),
                    &[&relation.schema.as_str(), &relation.name.as_str()],
                )
                .await
                .doing(Kind::Server, || step.doing())?;
            for row in rows {
                let leftover = TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name"));
                wait_for_builders(world, client, &leftover).await?;
                drop_index(world, client, &leftover).await?;
            }
        }
        _ => {}
    }
    Ok(false)
}

/// After `kill -9` of ours the server goes on building. It is let finish: its result is what we want.
async fn wait_for_builders(world: &dyn DdlWorld, client: &Client, index: &TableName) -> Result<()> {
    let began = Instant::now();
    let mut told = false;
    while let Some(found) = look::find(client, index).await?.filter(|found| !found.valid) {
        let rows = client
            .query(include_str!("../../../sql/ddl/list_builders.sql"), &[&found.oid])
            .await
            .doing(Kind::Server, || format!("cannot look who builds {}", index.plain()))?;
        let Some(builder) = rows.first() else { return Ok(()) };
        let pid: i32 = builder.get("pid");
        if began.elapsed() > BUILD_DEADLINE {
            let what = format!("{} is still being built by pid {pid}", index.plain());
            return Err(Error::new(Kind::Stopped, what)
                .hint("wait for it or end it, then run the same command again"));
        }
        if !told {
            told = true;
            let text = format!("{} is being built by pid {pid} already; waiting for it", index.plain());
            world.ears().tell(Event::Note { text });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Drops an index beside readers and writers, if it is there.
pub(super) async fn drop_index(world: &dyn DdlWorld, client: &Client, index: &TableName) -> Result<()> {
    world.guard(client).await?;
    let title = format!("drop index {}", index.plain());
    watched(world, client, &title, &format!("drop index concurrently if exists {index}"))
        .await
        .map(drop)
        .doing(Kind::Server, || format!("cannot drop index {}", index.plain()))
}

/// Builds an index again that was dropped, from `pg_get_indexdef`.
pub(super) async fn recreate(world: &dyn DdlWorld, index: &TableName, definition: &str) -> Result<()> {
    let client = world.session("ddl build").await?;
    wait_for_builders(world, &client, index).await?;
    match look::find(&client, index).await? {
        Some(found) if found.valid => return Ok(()),
        Some(_) => drop_index(world, &client, index).await?,
        None => {}
    }
    // The server writes exactly one of these two beginnings.
    let sql = ["CREATE INDEX ", "CREATE UNIQUE INDEX "]
        .into_iter()
        .find_map(|head| Some(format!("{head}CONCURRENTLY {}", definition.strip_prefix(head)?)))
        .ok_or_else(|| Error::new(Kind::Bug, format!("not an index definition: {definition}")))?;
    world.guard(&client).await?;
    watched(world, &client, &format!("bring back index {}", index.plain()), &sql)
        .await
        .map(drop)
        .doing(Kind::Server, || format!("cannot bring back {}", index.plain()))
}

/// Runs a statement while a second session tells how far it is and whom it waits for; says what others waited for it. It is not
/// cancelled when the brownout budget is spent, since it would leave an INVALID index; the step after it is not begun then.
async fn watched(
    world: &dyn DdlWorld,
    client: &Client,
    title: &str,
    sql: &str,
) -> std::result::Result<Waited, tokio_postgres::Error> {
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let work = client.batch_execute(sql);
    let told = async {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => done,
            () = watch(world, title, pid) => work.await,
        }
    };
    let (done, waited) = Watch::of(world, pid).await.over(WhenSpent::GoOn, told).await;
    done.map(|()| waited)
}

fn tell_done(world: &dyn DdlWorld, step: &DdlStep) {
    let subject = step.online.title.clone();
    world.ears().tell(Event::Progress { subject, rows: 0, bytes: 0, total_bytes: 0, done: true });
}

/// Tells progress until the deadline, then cancels the build. Being unable to look is no reason to stop it.
async fn watch(world: &dyn DdlWorld, title: &str, pid: i32) {
    let Ok(client) = world.session("ddl watch").await else { return };
    let began = Instant::now();
    let mut told = Vec::new();
    while began.elapsed() < BUILD_DEADLINE {
        tokio::time::sleep(LOOK_EVERY).await;
        let progress = client.query_opt(include_str!("../../../sql/ddl/read_progress.sql"), &[&pid]).await;
        match progress {
            Ok(Some(row)) => tell(world, title, &row, &mut told),
            // DROP INDEX CONCURRENTLY has no progress row; whom it waits for is seen from the locks.
            Ok(None) => {
                let Ok(found) = brief::waited_for(&client, pid).await else { return };
                for (blocker, who) in found {
                    tell_waiting(world, title, blocker, &who, &mut told);
                }
            }
            Err(_) => return,
        }
    }
    // The build then ends with an error, and what is left of it is dropped.
    if let Err(error) = client.execute("select pg_cancel_backend($1)", &[&pid]).await {
        tracing::warn!(%error, pid, "cannot cancel a build past its deadline");
    }
}

fn tell(world: &dyn DdlWorld, title: &str, row: &tokio_postgres::Row, told: &mut Vec<i32>) {
    let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    world.ears().tell(Event::Progress {
        subject: title.to_owned(),
        rows: count("rows"),
        bytes: count("bytes"),
        total_bytes: count("total_bytes"),
        done: false,
    });
    if let (true, Some(pid)) = (row.get::<_, bool>("waits"), row.get::<_, Option<i32>>("locker_pid")) {
        tell_waiting(world, title, pid, &row.get::<_, String>("locker"), told);
    }
}

fn tell_waiting(world: &dyn DdlWorld, title: &str, pid: i32, who: &str, told: &mut Vec<i32>) {
    if !told.contains(&pid) {
        told.push(pid);
        let text = format!("waiting to {title}: for the transaction of pid {pid} ({who})");
        world.ears().tell(Event::Warning { text });
    }
}
