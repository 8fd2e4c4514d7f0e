//! Sees who waits on blue for a lock that a copy of ours holds, and stops that copy.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const CANCEL_BLOCKERS: &str = include_str!("../../sql/copy/cancel_blockers.sql");
/// How often blue is asked.
const PERIOD: Duration = Duration::from_millis(300);
/// How long blue may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Watches until dropped.
pub(super) struct LockWatch {
    copying: Arc<Mutex<BTreeSet<i32>>>,
    task: JoinHandle<Error>,
}

/// One backend under watch, until dropped. When it is in somebody's way, its statement ends with SQLSTATE 57014.
pub(super) struct Watching<'a> {
    watch: &'a LockWatch,
    pid: i32,
}

fn open(copying: &Mutex<BTreeSet<i32>>) -> MutexGuard<'_, BTreeSet<i32>> {
    copying.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LockWatch {
    /// Watches through a connection to blue of its own.
    pub(super) fn start(blue: Client) -> LockWatch {
        let copying = Arc::<Mutex<BTreeSet<i32>>>::default();
        let task = tokio::spawn(watch_on(blue, copying.clone()));
        LockWatch { copying, task }
    }

    /// Puts a backend under watch.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the watch itself is gone: without it, blue's writers could stand behind us for hours.
    pub(super) fn watch(&self, pid: i32) -> Result<Watching<'_>> {
        if self.task.is_finished() {
            return Err(Error::new(Kind::Connect, "the session that watches blue's lock waiters is gone"));
        }
        open(&self.copying).insert(pid);
        Ok(Watching { watch: self, pid })
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        open(&self.watch.copying).remove(&self.pid);
    }
}

impl Drop for LockWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends only when blue cannot be asked any more.
async fn watch_on(blue: Client, copying: Arc<Mutex<BTreeSet<i32>>>) -> Error {
    loop {
        tokio::time::sleep(PERIOD).await;
        let pids: Vec<i32> = open(&copying).iter().copied().collect();
        if pids.is_empty() {
            continue;
        }
        let asked = tokio::time::timeout(ANSWER_MAX, blue.query(CANCEL_BLOCKERS, &[&pids])).await;
        let error = match asked {
            Ok(Ok(cancelled)) => {
                for row in cancelled {
                    tracing::info!(
                        pid = row.get::<_, i32>(0),
                        "a copy steps aside for a session that waits on blue"
                    );
                }
                continue;
            }
            Ok(Err(error)) => {
                Error::new(Kind::Server, "blue's lock waiters cannot be looked for").source(error)
            }
            Err(_) => Error::new(Kind::Deadline, "blue does not say who waits for locks"),
        };
        tracing::warn!(error = ?error.chain(), "the watch over blue's lock waiters ended");
        return error;
    }
}
