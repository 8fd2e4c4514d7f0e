//! A change of many rows in batches along the table's key, each in a transaction of its own.
//!
//! How far it came is written in the manifest in the batch's own transaction, so a batch counts exactly if its rows are changed,
//! and a run that died goes on with the next one. Where it ends is fixed when it begins: rows with a greater key were written
//! by clients that live after the change.

use super::{
    DdlStep, DdlWorld,
    brief::{entered, pid, tell_waited},
    brownout::{Waited, Watch, WhenSpent},
};
use crate::{
    ddl::{Holds, statement::Backfill},
    engine::failpoint,
    error::{Doing, Error, Kind, Result},
    event::Event,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio_postgres::{
    Client,
    error::SqlState,
    types::{Json, ToSql},
};

/// Rows of the key walked by the first batch.
const FIRST_BATCH_ROWS: i64 = 1_000;
/// And by any.
const LEAST_BATCH_ROWS: i64 = 10;
const MOST_BATCH_ROWS: i64 = 50_000;
/// A batch is made smaller when it takes longer, and greater when it takes less than half of it: its rows are locked so long.
const BATCH_TARGET: Duration = Duration::from_millis(250);
/// A batch is made smaller, too, when others waited longer for its rows, all together.
const WAITED_TARGET: Duration = Duration::from_millis(100);
/// The server ends a batch that takes longer; it is tried again, smaller.
const BATCH_DEADLINE_MS: u32 = 30_000;
/// Between batches we rest as long as one took, so that half of the time belongs to others; no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// While the slowest standby is further behind, we wait.
const LAG_LIMIT_BYTES: i64 = 64 << 20;
/// But a standby that does not come closer in this time is not waited for.
const LAG_PATIENCE: Duration = Duration::from_secs(600);
/// How often the standbys are looked at.
const LOOK_AT_LAG_EVERY: Duration = Duration::from_secs(1);

/// How far it came, as the manifest keeps it. Keys are text, since they go through the server's own input and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The last key of the last batch; `None` before the first.
    after: Option<Vec<String>>,
    /// The greatest key when it began; `None` when the table was empty.
    until: Option<Vec<String>>,
    /// Rows changed so far.
    rows: u64,
    /// The last batch is through.
    pub done: bool,
}

/// What one batch did.
struct Batch {
    position: Position,
    took: Duration,
    /// For its rows.
    waited: Waited,
}

/// Runs the step's batches until none is left; says what others waited for them.
///
/// # Errors
/// The server's error; [`Kind::Stopped`] when a batch could not be done in any try, or the brownout budget is spent. What is done
/// stays done.
pub(super) async fn run(world: &dyn DdlWorld, step: &DdlStep, plan: &Backfill) -> Result<Waited> {
    if plan.key.is_empty() {
        let what =
            format!("{}: the key of {} was not read when this was planned", step.doing(), plan.table.plain());
        return Err(Error::new(Kind::Request, what).hint("plan again with the database"));
    }
    let client = world.session("ddl backfill").await?;
    let mut watch = Watch::of(world, pid(&client).await?).await;
    let mut pace = Pace { rows: FIRST_BATCH_ROWS, failed: 0, lag_seen: None };
    loop {
        let began = Instant::now();
        let work = batch(world, &client, step, plan, pace.rows);
        let (done, waited) = watch.over(WhenSpent::Cancel, work).await;
        match done {
            Ok(position) => {
                let took = began.elapsed();
                tell(world, step, &position);
                if position.done {
                    tell_waited(world, step, watch.waited());
                    return Ok(watch.waited());
                }
                failpoint::hit(&format!("{}:batch", step.online.id));
                pace.after(&Batch { position, took, waited });
                pace.rest(&client, took).await?;
            }
            Err(Trouble::Ours(error)) => return Err(error),
            Err(Trouble::Server(error)) => {
                // With the session lost there is nothing to roll back, and no other try.
                if client.batch_execute("rollback").await.is_err() {
                    return Err(error).doing(Kind::Server, || step.doing());
                }
                let cancelled = error.code() == Some(&SqlState::QUERY_CANCELED);
                if !(cancelled && world.brownout().is_spent()) {
                    pace.failed(step, error).await?;
                }
            }
        }
        if world.brownout().is_spent() {
            tell_waited(world, step, watch.waited());
            return Err(world.brownout().spent(&step.doing(), "writers of the rows that it changes"));
        }
    }
}

fn tell(world: &dyn DdlWorld, step: &DdlStep, position: &Position) {
    let subject = step.online.title.clone();
    let (rows, done) = (position.rows, position.done);
    world.ears().tell(Event::Progress { subject, rows, bytes: 0, total_bytes: 0, done });
}

/// How large the batches are, and how fast they follow.
struct Pace {
    rows: i64,
    failed: u32,
    lag_seen: Option<Instant>,
}

impl Pace {
    fn after(&mut self, batch: &Batch) {
        self.failed = 0;
        if batch.took > BATCH_TARGET || batch.waited.total > WAITED_TARGET {
            self.rows /= 2;
        } else if batch.took < BATCH_TARGET / 2 {
            self.rows *= 2;
        }
        self.rows = self.rows.clamp(LEAST_BATCH_ROWS, MOST_BATCH_ROWS);
        tracing::debug!(rows = batch.position.rows, next = self.rows, "batch done");
    }

    /// Leaves time to others, and lets the standbys come after us.
    async fn rest(&mut self, client: &Client, took: Duration) -> Result<()> {
        tokio::time::sleep(took.min(LONGEST_REST)).await;
        if self.lag_seen.is_some_and(|seen| seen.elapsed() < LOOK_AT_LAG_EVERY) {
            return Ok(());
        }
        let began = Instant::now();
        while began.elapsed() < LAG_PATIENCE {
            self.lag_seen = Some(Instant::now());
            let row = client
                .query_one(include_str!("../../../sql/ddl/read_standby_lag.sql"), &[])
                .await
                .doing(Kind::Server, || "cannot look how far the standbys are".into())?;
            if row.get::<_, i64>("lag_bytes") <= LAG_LIMIT_BYTES {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AT_LAG_EVERY).await;
        }
        tracing::warn!("a standby stays behind; the batches go on");
        Ok(())
    }

    /// Waits before another try of a batch that met a lock or its deadline; anything else is an error.
    async fn failed(&mut self, step: &DdlStep, error: tokio_postgres::Error) -> Result<()> {
        let again = error.code().is_some_and(|code| {
            [
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::QUERY_CANCELED,
            ]
            .contains(code)
        });
        self.failed += 1;
        if !again || self.failed >= step.online.retry.tries {
            return Err(error).doing(if again { Kind::Stopped } else { Kind::Server }, || step.doing());
        }
        self.rows = (self.rows / 2).max(LEAST_BATCH_ROWS);
        let longest =
            Duration::from_millis(100).saturating_mul(self.failed * self.failed).min(Duration::from_secs(5));
        let pause = longest.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Why a batch did not come to its end.
enum Trouble {
    /// The lease is not ours any more, and the like.
    Ours(Error),
    /// The server's answer; perhaps another try does it.
    Server(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        Trouble::Server(error)
    }
}

/// One transaction: the next rows of the key, and how far that came.
async fn batch(
    world: &dyn DdlWorld,
    client: &Client,
    step: &DdlStep,
    plan: &Backfill,
    rows: i64,
) -> Result<Position, Trouble> {
    let lock_timeout_ms = step.online.retry.lock_timeout_ms.unwrap_or(1_000);
    let begin = format!(
        "begin; set local lock_timeout = {lock_timeout_ms}; set local statement_timeout = {BATCH_DEADLINE_MS}; {}",
        entered(Holds::Transaction, step)
    );
    client.batch_execute(&begin).await?;
    world.guard(client).await.map_err(Trouble::Ours)?;
    let mut position = match step.record(client).await.map_err(Trouble::Ours)? {
        Some(record) => serde_json::from_value(record)
            .doing(Kind::Bug, || format!("{}: the record of its batches cannot be read", step.doing()))
            .map_err(Trouble::Ours)?,
        None => start(client, step, plan).await?,
    };
    let upto = if position.done { None } else { next(client, plan, &position, rows).await? };
    position.done = upto.is_none() || upto == position.until;
    if let Some(upto) = upto {
        position.rows += change(client, plan, position.after.as_deref(), &upto).await?;
        position.after = Some(upto);
    }
    client
        .execute(
            "update migrate.manifest set prior = $2 where object = $1",
            &[&step.online.id, &Json(&position)],
        )
        .await?;
    client.batch_execute("commit").await?;
    Ok(position)
}

/// Before the first batch: where the last one will end.
async fn start(client: &Client, step: &DdlStep, plan: &Backfill) -> Result<Position, Trouble> {
    let key = Key(plan);
    let sql = format!(
        "select {} from {} as walked order by {} limit 1",
        key.as_text(),
        plan.table,
        key.descending()
    );
    let until = client.query_opt(&sql, &[]).await?.map(|row| key.values(&row));
    let position = Position { after: None, until, rows: 0, done: false };
    client
        .execute(
            "insert into migrate.manifest (object, prior) values ($1, $2)",
            &[&step.online.id, &Json(&position)],
        )
        .await?;
    Ok(position)
}

/// The last key of the next batch; `None` when there is nothing to walk.
async fn next(
    client: &Client,
    plan: &Backfill,
    position: &Position,
    rows: i64,
) -> Result<Option<Vec<String>>, Trouble> {
    let Some(until) = &position.until else { return Ok(None) };
    let key = Key(plan);
    let mut conditions = vec![key.compared(None, "<=", 1)];
    let mut values: Vec<&(dyn ToSql + Sync)> = until.iter().map(|value| value as _).collect();
    if let Some(after) = &position.after {
        conditions.push(key.compared(None, ">", 1 + until.len()));
        values.extend(after.iter().map(|value| value as &(dyn ToSql + Sync)));
    }
    let sql = format!(
        "select {} from {} as walked where {} order by {} offset {} limit 1",
        key.as_text(),
        plan.table,
        conditions.join(" and "),
        key.ascending(),
        rows - 1
    );
    let found = client.query_opt(&sql, &values).await?.map(|row| key.values(&row));
    Ok(Some(found.unwrap_or_else(|| until.clone())))
}

/// Changes the rows of one batch, and says how many they were.
async fn change(
    client: &Client,
    plan: &Backfill,
    after: Option<&[String]>,
    upto: &[String],
) -> Result<u64, Trouble> {
    let key = Key(plan);
    let alias = Some(plan.alias.as_str());
    let mut range = key.compared(alias, "<=", 1);
    let mut values: Vec<&(dyn ToSql + Sync)> = upto.iter().map(|value| value as _).collect();
    if let Some(after) = after {
        range = format!("{range} and {}", key.compared(alias, ">", 1 + upto.len()));
        values.extend(after.iter().map(|value| value as &(dyn ToSql + Sync)));
    }
    Ok(client.execute(&format!("{}{range}{}", plan.head, plan.tail), &values).await?)
}

/// The key's columns in SQL.
struct Key<'a>(&'a Backfill);

impl Key<'_> {
    fn list(&self, column: impl Fn(usize, &crate::ddl::statement::KeyColumn) -> String) -> String {
        self.0.key.iter().enumerate().map(|(at, name)| column(at, name)).collect::<Vec<_>>().join(", ")
    }

    fn as_text(&self) -> String {
        self.list(|_, column| format!("{}::text", column.name))
    }

    fn ascending(&self) -> String {
        // Qualified, since a bare name would mean the text that is selected.
        self.list(|_, column| format!("walked.{}", column.name))
    }

    fn descending(&self) -> String {
        self.list(|_, column| format!("walked.{} desc", column.name))
    }

    /// `("a", "b") <= ($1::text::bigint, $2::text::uuid)`, the parameters counted from `first`.
    fn compared(&self, alias: Option<&str>, operator: &str, first: usize) -> String {
        let prefix = alias.map(|alias| format!("{alias}.")).unwrap_or_default();
        let columns = self.list(|_, column| format!("{prefix}{}", column.name));
        let values = self.list(|at, column| format!("${}::text::{}", first + at, column.type_name));
        format!("({columns}) {operator} ({values})")
    }

    fn values(&self, row: &tokio_postgres::Row) -> Vec<String> {
        (0..self.0.key.len()).map(|at| row.get(at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ddl::statement::KeyColumn,
        pg::name::{Ident, TableName},
    };

    #[test]
    fn a_range_is_compared_as_a_row_in_the_keys_own_types() {
        let column =
            |name: &str, type_name: &str| KeyColumn { name: Ident::new(name), type_name: type_name.into() };
        let plan = Backfill {
            table: TableName::new("public", "t"),
            key: vec![column("a", "bigint"), column("B", "uuid")],
            head: String::new(),
            tail: String::new(),
            alias: "\"x\"".into(),
        };
        assert_eq!(
            Key(&plan).compared(Some(&plan.alias), ">", 3),
            "(\"x\".\"a\", \"x\".\"B\") > ($3::text::bigint, $4::text::uuid)"
        );
        assert_eq!(Key(&plan).descending(), "walked.\"a\" desc, walked.\"B\" desc");
    }
}
