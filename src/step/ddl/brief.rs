//! A strong lock held for a moment: its own transaction, a short lock timeout, and again, with whoever is in the way named.

use super::{
    DdlStep, DdlWorld,
    brownout::{Waited, Watch, WhenSpent},
};
use crate::{
    ddl::{self, Holds, lock::LockTaken},
    error::{Doing, Error, Kind, Result},
    event::Event,
};
use rand::RngExt;
use std::time::Duration;
use tokio_postgres::{Client, error::SqlState, types::ToSql};

/// The first try waits no longer than this for its locks; while it waits, those who come after it wait too.
const FIRST_LOCK_TIMEOUT_MS: u32 = 200;
/// Between tries, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A transaction this old is not going to end within our lock timeout, so waiting for it would only make others wait.
const OLD_MS: i64 = 1_000;
/// But now and then we try all the same, since old transactions may follow one another without end.
const TRY_ANYWAY_EVERY: u32 = 5;

/// A statement of our own and its parameters, run in the same transaction.
pub(super) type Record<'a> = (&'a str, &'a [&'a (dyn ToSql + Sync)]);

/// Runs `sql` and `record` in one transaction, as often as the step and the brownout budget allow; says what others waited for it.
///
/// # Errors
/// The server's error; [`Kind::Stopped`] when the locks could not be had in any try, or the budget is spent. Then nothing has
/// happened.
pub(super) async fn run(
    world: &dyn DdlWorld,
    step: &DdlStep,
    sql: &str,
    record: Record<'_>,
) -> Result<Waited> {
    let retry = step.online.retry;
    let mut told = Vec::new();
    let mut in_the_way = Vec::new();
    let client = world.session("ddl").await?;
    let mut watch = Watch::of(world, pid(&client).await?).await;
    for nth in 1..=retry.tries.max(1) {
        in_the_way = blockers(&client, &step.online.cost.locks).await?;
        tell_new(world, step, &in_the_way, &mut told);
        let hopeless = in_the_way.iter().any(|blocker| blocker.age_ms >= OLD_MS);
        if !hopeless || nth % TRY_ANYWAY_EVERY == 0 {
            let longest_ms = retry.lock_timeout_ms.unwrap_or(1_000);
            let left_ms = u32::try_from(world.brownout().left().as_millis()).unwrap_or(u32::MAX).max(1);
            let timeout_ms = FIRST_LOCK_TIMEOUT_MS.saturating_mul(nth).min(longest_ms).min(left_ms);
            let attempt = Attempt { world, client: &client, step, timeout_ms };
            if watch.over(WhenSpent::Cancel, attempt.run(sql, record)).await.0? {
                tell_waited(world, step, watch.waited());
                return Ok(watch.waited());
            }
        }
        if world.brownout().is_spent() {
            tell_waited(world, step, watch.waited());
            return Err(world.brownout().spent(&step.doing(), &listed(&in_the_way)));
        }
        tokio::time::sleep(pause(nth)).await;
    }
    tell_waited(world, step, watch.waited());
    let who = listed(&in_the_way);
    let what =
        format!("{}: its locks could not be had in {} tries; in the way: {who}", step.doing(), retry.tries);
    Err(Error::new(Kind::Stopped, what)
        .hint("end or wait for those transactions, then run the same command again; what is done stays done"))
}

/// One try.
struct Attempt<'a> {
    world: &'a dyn DdlWorld,
    client: &'a Client,
    step: &'a DdlStep,
    timeout_ms: u32,
}

impl Attempt<'_> {
    /// `false` when the locks could not be had, or others had waited long enough; then nothing has happened.
    async fn run(&self, sql: &str, record: Record<'_>) -> Result<bool> {
        let Attempt { world, client, step, timeout_ms } = self;
        let begin =
            format!("begin; set local lock_timeout = {timeout_ms}; {}", entered(Holds::Transaction, step));
        client.batch_execute(&begin).await.doing(Kind::Server, || step.doing())?;
        world.guard(client).await?;
        let tried = async {
            client.batch_execute(sql).await?;
            client.execute(record.0, record.1).await?;
            client.batch_execute("commit").await
        };
        let Err(error) = tried.await else { return Ok(true) };
        let retriable = error.code().is_some_and(|code| {
            [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
        });
        // Our own cancelling, when the budget is spent, and nobody else's.
        let is_ours = error.code() == Some(&SqlState::QUERY_CANCELED) && world.brownout().cancelled();
        if !retriable && !is_ours {
            return Err(error).doing(Kind::Server, || step.doing());
        }
        client.batch_execute("rollback").await.doing(Kind::Server, || step.doing())?;
        Ok(false)
    }
}

/// The pid of a session.
pub(super) async fn pid(client: &Client) -> Result<i32> {
    let row = client.query_one("select pg_backend_pid()", &[]).await;
    Ok(row.doing(Kind::Server, || "cannot ask for the pid of our own session".into())?.get(0))
}

/// The SETs of the session in which the step runs.
pub(super) fn entered(holds: Holds, step: &DdlStep) -> String {
    ddl::entered(holds, &step.online.search_path, &step.online.settings)
}

/// Growing, with jitter, so that two of us do not meet again and again.
fn pause(nth: u32) -> Duration {
    let base = Duration::from_millis(100).saturating_mul(nth * nth).min(LONGEST_PAUSE);
    base.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// A transaction in the way.
#[derive(Debug, Clone)]
pub(super) struct Blocker {
    pid: i32,
    who: String,
    age_ms: i64,
    on: String,
    query: String,
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let age_s = self.age_ms / 1_000;
        write!(f, "pid {} ({}) holds {} for {age_s} s: {}", self.pid, self.who, self.on, self.query)
    }
}

/// Who holds a lock that conflicts with one of these, oldest first.
pub(super) async fn blockers(client: &Client, locks: &[LockTaken]) -> Result<Vec<Blocker>> {
    let (relations, modes): (Vec<String>, Vec<&str>) = locks
        .iter()
        .flat_map(|lock| lock.mode.conflicts().iter().map(|mode| (lock.relation.to_string(), mode.pg_name())))
        .unzip();
    let rows = client
        .query(include_str!("../../../sql/ddl/list_blockers.sql"), &[&relations, &modes])
        .await
        .doing(Kind::Server, || "cannot look who holds locks".into())?;
    Ok(rows
        .iter()
        .map(|row| Blocker {
            pid: row.get("pid"),
            who: ["role", "application", "state"]
                .map(|column| row.get::<_, String>(column))
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", "),
            age_ms: row.get("age_ms"),
            on: format!("{} on {}", row.get::<_, String>("mode"), row.get::<_, String>("relation")),
            query: row.get::<_, String>("query").split_whitespace().collect::<Vec<_>>().join(" "),
        })
        .collect())
}

fn listed(in_the_way: &[Blocker]) -> String {
    match in_the_way {
        [] => "sessions that had ended when we looked".into(),
        found => found.iter().map(Blocker::to_string).collect::<Vec<_>>().join("; "),
    }
}

/// Says what others waited for a step, if they did.
pub(super) fn tell_waited(world: &dyn DdlWorld, step: &DdlStep, waited: Waited) {
    if waited.waits > 0 {
        let text = format!("to {}, {waited}", step.online.title);
        world.ears().tell(Event::Note { text });
    }
}

fn tell_new(world: &dyn DdlWorld, step: &DdlStep, found: &[Blocker], told: &mut Vec<i32>) {
    for blocker in found.iter().filter(|blocker| blocker.age_ms >= OLD_MS) {
        if !told.contains(&blocker.pid) {
            told.push(blocker.pid);
            let text = format!("waiting to {}: {blocker}", step.online.title);
            world.ears().tell(Event::Warning { text });
        }
    }
}

/// Whom a session waits for: pid, and who that is.
pub(super) async fn waited_for(client: &Client, pid: i32) -> Result<Vec<(i32, String)>> {
    let rows = client
        .query(include_str!("../../../sql/ddl/list_waited_for.sql"), &[&pid])
        .await
        .doing(Kind::Server, || format!("cannot look whom pid {pid} waits for"))?;
    Ok(rows.iter().map(|row| (row.get("pid"), row.get("who"))).collect())
}
