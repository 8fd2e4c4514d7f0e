//! Fence blue: the one transaction after which blue refuses writes and green has all of them.

use super::{
    Adoption, Notes, Standing, Step, StepId, arm_gate::count_armed, blue_shape, compare_keys, newcomers,
    sequences, world::World,
};
use crate::engine::{failpoint, lease};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{catalog, connect, lsn::Lsn};
use crate::plan::Side;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, error::SqlState};

/// Closes blue's gate once green has everything that was written before.
///
/// One transaction on blue, so that the *server* undoes everything if we die before its COMMIT:
///
/// 1. an exclusive advisory lock waits for every writer that is in the gate, and holds back new ones;
/// 2. under it we look again: every relation armed, the shape unchanged, no prepared transaction;
/// 3. another session commits a marker; green having it, durably, proves that green has all before it;
/// 4. sequences are carried; the keys changed last are compared;
/// 5. the gate is closed and `FENCED` written; COMMIT.
///
/// `idle_in_transaction_session_timeout` is the dead-man switch: if this process or its network dies while the
/// transaction is open, the server ends it within the pause budget.
///
/// # Crash
/// Before COMMIT: nothing happened. During COMMIT: the gate's row tells. After: blue refuses writes and holds every
/// one; undo opens the gate again and loses nothing, as long as green has not been opened.
///
/// # Source
/// Measured against the alternatives in the hazard list: read-only flags and `sent - replay = 0` lost writes.
///
/// In `mode: snapshot` green does not follow: the marker only makes sure that all of blue's log up to the fence is written
/// down, for the revocations' capture to reach it, and there are no keys to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceBlue {
    /// Green has all that was written before.
    Drained,
    /// Green stays at the copy's moment.
    AtMoment,
}

/// What the fence writes down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fenced {
    /// Commit position of the marker: nothing an application wrote on blue is after it.
    pub lsn: Lsn,
    /// How long writers waited for the lock, in milliseconds.
    pub lock_ms: u64,
    /// From the lock to green having the marker, in milliseconds.
    pub drain_ms: u64,
    /// Sequences carried.
    pub sequences: usize,
    /// Sequences of blue that green does not have any more, after the vendor's SQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences_left_out: Vec<String>,
    /// Keys compared.
    pub keys_compared: usize,
}

/// One try for the lock holds new writers back for this long at most; below Postgres' `deadlock_timeout` of a second,
/// so that an application is never the deadlock's victim.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// The server ends an abandoned fence this long after the budget: we must never be ended while we still decide.
const DEAD_MAN_GRACE: Duration = Duration::from_secs(1);

/// The name of the fence, for [`Notes`].
pub fn id() -> StepId {
    StepId::new("switch/fence-blue")
}

#[async_trait]
impl Step<World> for FenceBlue {
    fn id(&self) -> StepId {
        id()
    }

    fn adoption(&self) -> Adoption {
        Adoption::Refused
    }

    fn title(&self) -> String {
        match self {
            FenceBlue::Drained => "Refuse writes on blue once green has all of them".into(),
            FenceBlue::AtMoment => "Refuse writes on blue; green stays at the copy's moment".into(),
        }
    }

    fn shows(&self) -> Vec<String> {
        let on_green = match self {
            FenceBlue::Drained => {
                "green: wait for the marker; setval for every sequence; compare the keys changed last"
            }
            FenceBlue::AtMoment => "green: setval for every sequence that is there by its name",
        };
        vec![
            "blue: begin; select pg_advisory_xact_lock(7747001)".into(),
            "blue, another session: select pg_logical_emit_message(true, 'migrate', <marker>)".into(),
            on_green.into(),
            "blue: update migrate.gate set closed = true, state = 'FENCED'; commit".into(),
        ]
    }

    fn locks(&self) -> String {
        "blue: an advisory lock that every writer shares: writers wait until the fence stands, readers do not"
            .into()
    }

    fn deadline(&self) -> String {
        format!("what is left of cutover.pause_max; {} ms a try for the lock", LOCK_TIMEOUT.as_millis())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        let state = gate_state(&*world.client(Side::Blue).await?).await?;
        Ok(match state.as_str() {
            "FENCED" | "OPENING" => Standing::Present,
            _ => Standing::Absent,
        })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let fence = connect::connect(&world.blue_info, "fence").await?;
        match self.fence(world, &fence).await {
            Ok(fenced) => {
                for sequence in &fenced.sequences_left_out {
                    world.warn(format!(
                        "green has no sequence {sequence} any more, so its position is not carried"
                    ));
                }
                Ok(Some(serde_json::json!(fenced)))
            }
            Err(error) => {
                // Writers wait for this lock: give it up at once rather than when the server notices that we left.
                let rollback = tokio::time::timeout(Duration::from_secs(1), fence.batch_execute("rollback"));
                if rollback.await.is_err() {
                    tracing::warn!("the fence's session does not answer; its dead-man switch ends it");
                }
                Err(error)
            }
        }
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "open blue's gate").await?;
        let opened = tx
            .execute(include_str!("../../sql/gate/reopen_blue.sql"), &[&world.epoch])
            .await
            .doing(Kind::Stopped, || "cannot open blue's gate again".into())?;
        if opened == 0 && gate_state(&tx).await? == "OPENING" {
            return Err(Error::new(Kind::ForwardOnly, "green may have been opened: blue stays closed")
                .hint("go on with `migrate cutover`"));
        }
        tx.commit().await.doing(Kind::Stopped, || "cannot open blue's gate again".into())
    }
}

impl FenceBlue {
    /// Runs in one transaction of `fence`, from the lock to COMMIT. An error leaves the transaction open.
    async fn fence(&self, world: &World, fence: &Client) -> Result<Fenced> {
        let began = Instant::now();
        lock_writers_out(world, fence).await?;
        let lock_ms = millis(began);
        failpoint::hit("fence:locked");

        look_again(world, fence).await?;
        let marker = format!("{}/{:016x}", world.attempt.slot(), rand::random::<u64>());
        emit_marker(world, &marker).await?;
        failpoint::hit("fence:marked");
        let lsn = match self {
            FenceBlue::Drained => wait_for_marker(world, &marker).await?,
            FenceBlue::AtMoment => written_lsn(&*world.client(Side::Blue).await?).await?,
        };
        let drain_ms = millis(began) - lock_ms;
        failpoint::hit("fence:drained");

        let carried = sequences::carry(world).await?;
        let keys_compared = match self {
            FenceBlue::Drained => compare_keys::compare(world).await?,
            FenceBlue::AtMoment => 0,
        };
        world.pause_budget("close blue's gate")?;
        failpoint::hit("fence:compared");

        fence
            .execute(include_str!("../../sql/gate/close_blue.sql"), &[&world.epoch, &lsn.to_string()])
            .await
            .doing(Kind::Deadline, || "cannot close blue's gate".into())?;
        commit(world, fence).await?;
        failpoint::hit("fence:committed");
        let sequences_left_out = carried.left_out;
        Ok(Fenced { lsn, lock_ms, drain_ms, sequences: carried.count, sequences_left_out, keys_compared })
    }
}

/// Takes the gate's lock exclusively, in tries that each hold writers back for half a second at most.
async fn lock_writers_out(world: &World, fence: &Client) -> Result<()> {
    let mut tried = 0;
    loop {
        tried += 1;
        let left = world.pause_budget("lock writers out of blue")?;
        let begin = format!(
            "begin; set local lock_timeout = '{}ms'; set local idle_in_transaction_session_timeout = '{}ms'; \
             set local synchronous_commit = on",
            LOCK_TIMEOUT.min(left).as_millis().max(1),
            (left + DEAD_MAN_GRACE).as_millis(),
        );
        fence
            .batch_execute(&begin)
            .await
            .doing(Kind::Deadline, || "cannot begin the fence on blue".into())?;
        lease::guard(fence, world.epoch).await?;
        match fence.batch_execute("select pg_advisory_xact_lock(7747001)").await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                fence
                    .batch_execute("rollback")
                    .await
                    .doing(Kind::Deadline, || "cannot leave the fence on blue".into())?;
                let pause = Duration::from_millis(20 * tried.min(10) + rand::random_range(0..20));
                tokio::time::sleep(pause.min(world.pause_left())).await;
            }
            Err(error) => {
                return Err(Error::new(Kind::Deadline, "cannot lock writers out of blue").source(error));
            }
        }
    }
}

/// What could have changed between the gates and the lock, looked at while nobody can change it.
async fn look_again(world: &World, fence: &Client) -> Result<()> {
    let doing = || "cannot look at blue inside the fence".to_owned();
    let tables = &world.gate_tables;
    let armed = count_armed(fence, Side::Blue, tables).await?;
    if armed != tables.len() {
        let what = format!(
            "{} of {} tables of blue are without the gate's trigger",
            tables.len() - armed,
            tables.len()
        );
        return Err(Error::new(Kind::Gate, what).hint(
            "somebody dropped or disabled it; `migrate rollback`, then `migrate cutover` arms it again",
        ));
    }
    let prepared: i64 = fence
        .query_one("select count(*) from pg_prepared_xacts where database = current_database()", &[])
        .await
        .doing(Kind::Deadline, doing)?
        .get(0);
    if prepared > 0 {
        return Err(Error::new(Kind::Gate, format!("{prepared} prepared transactions are open on blue"))
            .hint("their writes reach green only when they are committed: finish or roll them back first"));
    }
    let shape = catalog::ddl_fingerprint(fence, &world.gate_tables).await?;
    if !blue_shape::was_accepted(world, &shape).await? {
        return Err(shape_changed());
    }
    newcomers::refuse(&newcomers::look(world, fence).await?)
}

/// The error of every look that finds blue's shape changed since the attempt was pinned.
pub fn shape_changed() -> Error {
    Error::new(Kind::Gate, "the replicated tables of blue have changed shape since `migrate replicate` began")
        .hint("green has the old shape; `migrate rollback --all`, then start again with `migrate replicate`")
}

/// Writes the marker in a transaction of its own on another session, durably.
async fn emit_marker(world: &World, marker: &str) -> Result<()> {
    let doing = || "cannot write the marker on blue".to_owned();
    let mut client = world.client(Side::Blue).await?;
    let tx = client.transaction().await.doing(Kind::Deadline, doing)?;
    tx.batch_execute("set local synchronous_commit = on").await.doing(Kind::Deadline, doing)?;
    tx.execute("select pg_logical_emit_message(true, 'migrate', $1::text)", &[&marker])
        .await
        .doing(Kind::Deadline, doing)?;
    tx.commit().await.doing(Kind::Deadline, doing)
}

async fn wait_for_marker(world: &World, marker: &str) -> Result<Lsn> {
    let follower = world.follower.lock().await;
    let follower =
        follower.as_ref().ok_or_else(|| Error::new(Kind::Bug, "nobody follows blue while it is fenced"))?;
    follower.wait_for_marker(marker, world.pause_budget("drain green")?).await
}

/// Commits the fence. When the connection breaks meanwhile, the gate's row tells whether it is up.
async fn commit(world: &World, fence: &Client) -> Result<()> {
    let Err(error) = fence.batch_execute("commit").await else { return Ok(()) };
    let state = gate_state(&*world.client(Side::Blue).await?).await?;
    if state == "FENCED" {
        return Ok(());
    }
    Err(Error::new(Kind::Deadline, "blue's fence could not be committed").source(error))
}

/// The state in a side's gate: `OPEN`, `FENCED`, `OPENING`; on green `CLOSED`, `OPEN`.
pub async fn gate_state<C: tokio_postgres::GenericClient>(client: &C) -> Result<String> {
    let row = client
        .query_opt("select state from migrate.gate", &[])
        .await
        .doing(Kind::Server, || "cannot read the gate".into())?;
    Ok(row.map_or_else(|| "OPEN".into(), |row| row.get(0)))
}

/// The position up to which green has everything, as the fence's own transaction left it on blue: a process that died
/// right after that COMMIT has written down nothing else.
///
/// # Errors
/// [`Kind::Stopped`] when blue is not fenced.
pub async fn fenced_at<C: tokio_postgres::GenericClient>(client: &C) -> Result<Lsn> {
    let row = client
        .query_opt("select lsn::text from migrate.gate where closed and lsn is not null", &[])
        .await
        .doing(Kind::Server, || "cannot read where blue was fenced".into())?;
    let text: String = row.map(|row| row.get(0)).ok_or_else(|| {
        Error::new(Kind::Stopped, "blue is not fenced, so nobody knows up to where revocations count")
            .hint("somebody changed migrate.gate on blue; `migrate report` says what was done")
    })?;
    text.parse().map_err(|error: String| Error::new(Kind::Bug, error))
}

/// The end of what blue has written down.
///
/// # Errors
/// [`Kind::Server`].
pub async fn written_lsn<C: tokio_postgres::GenericClient>(blue: &C) -> Result<Lsn> {
    let text: String = blue
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await
        .doing(Kind::Server, || "cannot ask blue for its WAL position".into())?
        .get(0);
    text.parse().map_err(|error: String| Error::new(Kind::Bug, error))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
