//! Statements that were sent and whose answers are not here yet.

use crate::error::{Error, Kind, Result};
use crate::pg::name::TableName;
use crate::stream::dirty::DirtyKey;
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

type Answer = Result<u64, tokio_postgres::Error>;

/// What a statement was for, and so what its answer must be.
#[derive(Debug, Clone)]
pub(super) enum About {
    Begin,
    Lease { epoch: i64 },
    Progress,
    Truncate { tables: String },
    Insert { table: TableName, rows: u64 },
    Update { key: DirtyKey },
    Delete { key: DirtyKey },
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

    fn is_exempt(&self, key: &DirtyKey) -> bool {
        self.exempt.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    async fn look_at(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let Some(Pending { answer, about }) = self.waiting.pop_front() else { return Ok(()) };
            let rows = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(rows)) => rows,
                Ok(Err(error)) => return Err(refused(&about).source(error)),
                Err(_) => {
                    return Err(Error::new(
                        Kind::Connect,
                        format!("green has not answered for {} s", ANSWER_TIMEOUT.as_secs()),
                    )
                    .hint("Look for what it waits for in pg_stat_activity on green."));
                }
            };
            match &about {
                About::Begin | About::Truncate { .. } => {}
                About::Lease { .. } | About::Progress if rows == 1 => {}
                About::Insert { rows: expected, .. } if rows == *expected => {}
                About::Update { .. } | About::Delete { .. } if rows == 1 => {}
                About::Update { key } | About::Delete { key } if rows == 0 && self.is_exempt(key) => {
                    self.exempted += 1;
                }
                _ => return Err(unexpected_rows(&about, rows)),
            }
        }
        Ok(())
    }
}

fn refused(about: &About) -> Error {
    let what = match about {
        About::Begin => "green does not begin a transaction".to_owned(),
        About::Lease { .. } => "cannot read the lease on green".to_owned(),
        About::Progress => "cannot write the progress on green".to_owned(),
        About::Truncate { tables } => format!("green does not truncate {tables}"),
        About::Insert { table, .. } => format!("green refuses rows inserted into {}", table.plain()),
        About::Update { key } => format!("green refuses an update of {}", describe(key)),
        About::Delete { key } => format!("green refuses a delete from {}", describe(key)),
    };
    Error::new(Kind::Server, what)
}

fn unexpected_rows(about: &About, rows: u64) -> Error {
    match about {
        About::Lease { epoch } => {
            Error::new(Kind::Lease, format!("the lease on green is not epoch {epoch} any more"))
                .hint("Another migrate took over; `migrate status` says which.")
        }
        About::Progress => Error::new(Kind::Gate, "the progress row on green is gone, or ahead of us")
            .hint("Somebody else applied or reset green. Start from a fresh copy."),
        About::Update { key } | About::Delete { key } => {
            let verb = if matches!(about, About::Update { .. }) { "an update of" } else { "a delete from" };
            Error::new(Kind::Gate, format!("{rows} rows on green instead of one for {verb} {}", describe(key)))
                .hint("Green differs from blue there: something else wrote to green. Run `migrate verify --repair`, or start from a fresh copy.")
        }
        about => Error::new(Kind::Gate, format!("{rows} rows on green were not what was sent: {about:?}")),
    }
}

/// `table (key)`; long keys are cut.
fn describe(key: &DirtyKey) -> String {
    let cut = |value: &String| match value.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.clone(),
    };
    match key.key.is_empty() {
        true => format!("{} (no key)", key.table.plain()),
        false => {
            format!("{} ({})", key.table.plain(), key.key.iter().map(cut).collect::<Vec<_>>().join(", "))
        }
    }
}
