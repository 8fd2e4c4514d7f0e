//! Statements that were sent and whose answers are not here yet.

use crate::error::{Error, Kind, Result};
use crate::pg::name::TableName;
use crate::stream::change::key_text;
use crate::stream::dirty::DirtyKey;
use crate::stream::pgoutput::Tuple;
use crate::stream::shape::Shape;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// More answers than this are not waited for at once: it bounds what the client library keeps for us.
const IN_FLIGHT: usize = 2048;

/// How long green may take for one statement. Locks give up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// How long for one that makes joined rows anew: of a large transaction, or all of them after a TRUNCATE.
const JOINED_TIMEOUT: Duration = Duration::from_secs(3600);

type Answer = Result<u64, tokio_postgres::Error>;

/// What a statement was for, and so what its answer must be.
pub(super) enum About {
    /// Something with nothing to count, in words: `begin a transaction`.
    Command(&'static str),
    Lease {
        epoch: i64,
    },
    Progress,
    Truncate {
        tables: String,
    },
    Insert {
        table: TableName,
        rows: u64,
    },
    Update(Row),
    Delete(Row),
    /// Rows that are joined from others; they are not counted.
    Joined {
        table: TableName,
    },
    /// One statement for this many landed rows.
    Set {
        table: TableName,
        rows: u64,
    },
}

/// The row a statement is about. Its name is put together only when it is needed.
pub(super) struct Row {
    pub shape: Arc<Shape>,
    /// Only the key's cells.
    pub key: Tuple,
}

impl Row {
    fn name(&self) -> DirtyKey {
        let cells = self.key.0.iter();
        DirtyKey { table: self.shape.blue(), key: cells.map(key_text).collect() }
    }

    /// `table (key)`, the table's name on green; long keys are cut.
    fn describe(&self) -> String {
        let cut = |value: String| match value.char_indices().nth(40) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        let key: Vec<_> = self.key.0.iter().map(key_text).map(cut).collect();
        let key = if key.is_empty() { "no key".to_owned() } else { key.join(", ") };
        format!("{} ({key})", self.shape.green.plain())
    }
}

/// A statement on its way.
pub(super) struct Pending {
    answer: BoxFuture<'static, Answer>,
    about: About,
}

impl Pending {
    /// Sends a statement: the client library sends on the first poll, so that the order of sending is the order here.
    pub async fn start(statement: impl Future<Output = Answer> + Send + 'static, about: About) -> Pending {
        let mut answer = statement.boxed();
        match futures_util::poll!(answer.as_mut()) {
            Poll::Ready(ready) => Pending { answer: std::future::ready(ready).boxed(), about },
            Poll::Pending => Pending { answer, about },
        }
    }
}

/// The statements of the open transaction that wait for their answers.
pub(super) struct Pipeline {
    waiting: VecDeque<Pending>,
    /// Keys whose row may be missing.
    exempt: Arc<Mutex<HashSet<DirtyKey>>>,
    /// Missing rows that were excused since the last [`Pipeline::settle`].
    exempted: u64,
}

impl Pipeline {
    pub fn new(exempt: Arc<Mutex<HashSet<DirtyKey>>>) -> Pipeline {
        Pipeline { waiting: VecDeque::new(), exempt, exempted: 0 }
    }

    /// Takes a statement that was sent; waits for the oldest answers when too many are due.
    pub async fn send(&mut self, pending: Pending) -> Result<()> {
        self.waiting.push_back(pending);
        if self.waiting.len() >= IN_FLIGHT {
            self.look_at(IN_FLIGHT / 2).await?;
        }
        Ok(())
    }

    /// Waits for every answer, in the order of sending. Gives the number of rows that were missing and exempt.
    pub async fn settle(&mut self) -> Result<u64> {
        self.look_at(self.waiting.len()).await?;
        Ok(std::mem::take(&mut self.exempted))
    }

    /// After a failure of something else on the connection: the first statement that failed is the cause.
    pub async fn first_failure(&mut self) -> Result<()> {
        self.look_at(self.waiting.len()).await
    }

    /// Waits for every answer whatever it is: the transaction is taken back.
    pub async fn forget(&mut self) {
        for Pending { answer, .. } in std::mem::take(&mut self.waiting) {
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        }
        self.exempted = 0;
    }

    fn is_exempt(&self, key: &DirtyKey) -> bool {
        self.exempt.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    async fn look_at(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let Some(Pending { answer, about }) = self.waiting.pop_front() else { return Ok(()) };
            let timeout = match &about {
                About::Joined { .. } => JOINED_TIMEOUT,
                _ => ANSWER_TIMEOUT,
            };
            let rows = match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(rows)) => rows,
                Ok(Err(error)) => return Err(refused(&about).source(error)),
                Err(_) => return Err(silent_for(timeout)),
            };
            match &about {
                About::Command(_) | About::Truncate { .. } | About::Joined { .. } => {}
                About::Lease { .. } | About::Progress if rows == 1 => {}
                About::Insert { rows: expected, .. } | About::Set { rows: expected, .. }
                    if rows == *expected => {}
                About::Update(_) | About::Delete(_) if rows == 1 => {}
                About::Update(row) | About::Delete(row) if rows == 0 && self.is_exempt(&row.name()) => {
                    self.exempted += 1;
                }
                _ => return Err(unexpected_rows(&about, rows)),
            }
        }
        Ok(())
    }
}

/// What green answers.
///
/// # Errors
/// [`Kind::Connect`] when that takes longer than [`ANSWER_TIMEOUT`]: whoever goes on ends this session on green first.
pub(super) async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| silent_for(ANSWER_TIMEOUT))
}

fn silent_for(timeout: Duration) -> Error {
    Error::new(Kind::Connect, format!("green has not answered for {} s", timeout.as_secs()))
        .hint("Look for what it waits for in pg_stat_activity on green.")
}

fn refused(about: &About) -> Error {
    let what = match about {
        About::Command(what) => format!("green does not {what}"),
        About::Lease { .. } => "cannot read the lease on green".to_owned(),
        About::Progress => "cannot write the progress on green".to_owned(),
        About::Truncate { tables } => format!("green does not truncate {tables}"),
        About::Insert { table, .. } => format!("green refuses rows inserted into {}", table.plain()),
        About::Update(row) => format!("green refuses an update of {}", row.describe()),
        About::Delete(row) => format!("green refuses a delete from {}", row.describe()),
        About::Joined { table } => format!("green refuses joined rows of {}", table.plain()),
        About::Set { table, .. } => format!("green refuses a set of changes of {}", table.plain()),
    };
    let error = Error::new(Kind::Server, what);
    match about {
        About::Joined { .. } => error.hint("The query must give one row for each key, and what green's constraints take. Mend the rows on blue, or `migrate rollback --all` and mend the plan."),
        _ => error,
    }
}

fn unexpected_rows(about: &About, rows: u64) -> Error {
    match about {
        About::Lease { epoch } => {
            Error::new(Kind::Lease, format!("the lease on green is not epoch {epoch} any more"))
                .hint("Another migrate took over; `migrate status` says which.")
        }
        About::Progress => Error::new(Kind::Gate, "the progress row on green is gone, or ahead of us")
            .hint("Somebody else applied or reset green. Start from a fresh copy."),
        About::Update(row) | About::Delete(row) => {
            let verb = if matches!(about, About::Update(_)) { "an update of" } else { "a delete from" };
            Error::new(Kind::Gate, format!("{rows} rows on green instead of one for {verb} {}", row.describe()))
                .hint("Green differs from blue there: something else wrote to green. `migrate rollback --all`, then copy afresh with `migrate replicate`.")
        }
        About::Insert { table, rows: expected } | About::Set { table, rows: expected } => Error::new(
            Kind::Gate,
            format!("green changed {rows} rows of {} instead of {expected}", table.plain()),
        ),
        About::Command(_) | About::Truncate { .. } | About::Joined { .. } => {
            Error::new(Kind::Bug, format!("green changed {rows} rows where nothing is counted"))
        }
    }
}
