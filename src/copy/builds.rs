//! Builds indexes of tables that are whole, while others are still copied.
//!
//! A stream of rows keeps one core of green busy; the others would wait for the last table. What needs a table alone is
//! built as soon as the table has all its rows: constraints one after the other, since each has the table to itself,
//! then plain indexes, which share it. Partitioned indexes, checks and foreign keys are left to [`super::rebuild`],
//! which also builds whatever a crash left here.

use super::{
    deferred::DeferredKind,
    rebuild::{self, Job, Part, RebuildSpec},
};
use crate::error::{Doing, Kind, Result};
use crate::event::Ears;
use crate::pg::{conninfo::ConnInfo, name::TableName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_postgres::Client;

/// The objects of tables that are not whole yet, and those that may be built.
pub struct Builds {
    green: ConnInfo,
    spec: RebuildSpec,
    ears: Ears,
    state: Mutex<State>,
    /// Told at every change that may end a wait.
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<TableName, OfTable>,
    ready: VecDeque<Vec<Job>>,
    /// Tables that rows still come to.
    copying: BTreeSet<TableName>,
    /// Builders at work: each may make more ready.
    busy: usize,
    /// No other table will become whole.
    closed: bool,
}

/// What is built of one table.
#[derive(Default)]
struct OfTable {
    constraints: Vec<Job>,
    indexes: Vec<Job>,
}

impl Builds {
    /// Reads what the attempt deferred and did not build again; rows are to come to `tables`.
    ///
    /// # Errors
    /// [`Kind::Server`], [`Kind::Lease`].
    pub async fn open(
        green: &ConnInfo,
        spec: RebuildSpec,
        tables: impl IntoIterator<Item = TableName>,
        ears: Ears,
    ) -> Result<Builds> {
        let session = rebuild::open_session(green, spec).await?;
        let mut waiting: BTreeMap<TableName, OfTable> = BTreeMap::new();
        for job in rebuild::list(&session, spec.attempt).await? {
            let of_table = waiting.entry(job.table.clone()).or_default();
            match job.kind {
                _ if job.partitioned => {}
                DeferredKind::Index => of_table.indexes.push(job),
                DeferredKind::PrimaryKey | DeferredKind::Unique | DeferredKind::Exclusion => {
                    of_table.constraints.push(job);
                }
                DeferredKind::Check | DeferredKind::ForeignKey => {}
            }
        }
        let copying = tables.into_iter().collect();
        let state = Mutex::new(State { waiting, copying, ..State::default() });
        Ok(Builds { green: green.clone(), spec, ears, state, changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; a poisoned one still holds a whole value.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table of green has all its rows, committed.
    pub(super) fn is_whole(&self, table: &TableName) {
        let mut state = self.state();
        state.copying.remove(table);
        let Some(OfTable { constraints, indexes }) = state.waiting.remove(table) else { return };
        if constraints.is_empty() {
            state.ready.extend(indexes.into_iter().map(|index| vec![index]));
        } else {
            state.waiting.insert(table.clone(), OfTable { constraints: Vec::new(), indexes });
            state.ready.push_back(constraints);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// No other table will become whole: builders go home when they are done.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Builds with `builders` sessions until all is built that tables became whole for, and [`Builds::close`] was called.
    ///
    /// Dropping the future ends the sessions; what they were building rolls back.
    ///
    /// # Errors
    /// As [`rebuild::rebuild`]. What was built until then stays, and is marked as built.
    pub async fn work(&self, builders: usize) -> Result<()> {
        futures_util::future::try_join_all((0..builders).map(|_| self.build())).await?;
        Ok(())
    }

    async fn build(&self) -> Result<()> {
        let mut session = None;
        while let Some(jobs) = self.next().await {
            let session = match &mut session {
                Some(session) => session,
                none => none.insert(rebuild::open_session(&self.green, self.spec).await?),
            };
            self.spread(session).await?;
            for job in &jobs {
                job.run(session, Part::Make, self.spec, &self.ears).await?;
            }
            self.done(jobs);
        }
        Ok(())
    }

    /// Several builds at once, or builds and streams of rows, have the cores between them; the only one may use those that are
    /// idle, as the key of the last table, which has the table to itself.
    async fn spread(&self, session: &Client) -> Result<()> {
        let is_alone = {
            let state = self.state();
            state.copying.is_empty() && state.busy == 1 && state.ready.is_empty()
        };
        let setting = if is_alone {
            "reset max_parallel_maintenance_workers"
        } else {
            "set max_parallel_maintenance_workers = 0"
        };
        session
            .batch_execute(setting)
            .await
            .doing(Kind::Server, || "a session for building indexes cannot be prepared on green".into())
    }

    /// What to build next; waits for it. `None` when there will be nothing more. The wait ends with the copy, which has
    /// deadlines of its own.
    async fn next(&self) -> Option<Vec<Job>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(jobs) = state.ready.pop_front() {
                    state.busy += 1;
                    return Some(jobs);
                }
                if state.closed && state.busy == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The indexes of a table may be built when its constraints are.
    fn done(&self, jobs: Vec<Job>) {
        let mut state = self.state();
        state.busy -= 1;
        for job in jobs.iter().filter(|job| job.kind != DeferredKind::Index) {
            if let Some(of_table) = state.waiting.remove(&job.table) {
                state.ready.extend(of_table.indexes.into_iter().map(|index| vec![index]));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }
}
