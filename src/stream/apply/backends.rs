//! Our sessions on green, by what they are there.
//!
//! A session that we drop may have a statement under way that commits by itself, or a commit: 1. it waits for a lock on green;
//! 2. the stream from blue breaks, and the next session reads the progress of before; 3. the statement gets its lock and
//! commits; 4. the next session writes the same once more. So the earlier ones are ended before progress is read.

use super::pending::in_time;
use crate::error::{Doing, Error, Kind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_postgres::Client;

/// A session on green. The number of a process is used again; together with its beginning it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pid: i32,
    began: String,
}

/// Those that were not seen to end.
#[derive(Clone, Default)]
pub(in crate::stream) struct Backends(Arc<Mutex<Vec<Backend>>>);

impl Backends {
    /// Writes down the session of a client.
    pub(super) async fn add(&self, client: &Client) -> Result<()> {
        let row = client
            .query_one(include_str!("../../../sql/stream/read_backend.sql"), &[])
            .await
            .doing(Kind::Server, || "cannot read what our session on green is".into())?;
        self.lock().push(Backend { pid: row.get(0), began: row.get(1) });
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<Backend> {
        self.lock().clone()
    }

    /// Ends sessions over another one, and returns when they have ended.
    ///
    /// # Errors
    /// [`Kind::Connect`], which passes, when one does not end within ten seconds.
    pub(in crate::stream) async fn end_all(&self, client: &Client) -> Result<()> {
        self.end(self.list(), client).await
    }

    pub(super) async fn end(&self, backends: Vec<Backend>, client: &Client) -> Result<()> {
        if backends.is_empty() {
            return Ok(());
        }
        let (pids, begun): (Vec<i32>, Vec<&str>) =
            backends.iter().map(|backend| (backend.pid, backend.began.as_str())).unzip();
        let sql = include_str!("../../../sql/stream/end_backends.sql");
        let row = in_time(client.query_one(sql, &[&pids, &begun]))
            .await?
            .doing(Kind::Server, || "cannot end our earlier sessions on green".into())?;
        if !row.get::<_, bool>(0) {
            return Err(Error::new(Kind::Connect, "an earlier session of ours on green does not end")
                .hint("It may still write. Look for `migrate: apply` in pg_stat_activity on green."));
        }
        self.lock().retain(|known| !backends.contains(known));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
