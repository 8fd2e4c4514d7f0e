//! The sessions on green: one for what blue has committed, and one for each transaction that still runs on blue and is
//! written already, in a transaction of green that stays open until its end.
//!
//! One of them is written at a time, in blue's order. They do not wait for each other: while a transaction runs, blue itself
//! lets no other one change its rows, or take a unique value that it gave up. Where green's tables are such that they do wait
//! after all, the wait is short, and the caller follows without streaming from then on.

use super::pending::in_time;
use super::{Committed, Ledger, Writer};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::conninfo::ConnInfo;
use crate::stream::batch::{Applied, Batch};
use crate::stream::streamed::{End, Part, Step};

/// Only now can a lock be one that we hold ourselves, and then waiting for it is in vain.
const SHORT_WAITS: &str = "set lock_timeout = '5s'";

/// What a transaction sees must be what is committed when its statements run, not when it began, long ago.
const LONG_TRANSACTION: &str = "set default_transaction_isolation = 'read committed'";

/// All of them.
pub(in crate::stream) struct Sessions {
    /// Writes what blue has committed.
    pub main: Writer,
    green: ConnInfo,
    slot: String,
    epoch: i64,
    ledger: Ledger,
    running: Vec<Running>,
    /// One whose transaction has ended, with its statements prepared.
    spare: Option<Writer>,
    waits_shortly: bool,
}

/// A transaction that runs on blue, and is open on green.
struct Running {
    xid: u32,
    writer: Writer,
    /// Savepoints, each with what had been written before it.
    savepoints: Vec<(u32, Applied)>,
}

impl Sessions {
    /// Connects to green, and ends what an earlier connection left at work there.
    pub async fn connect(green: &ConnInfo, slot: &str, epoch: i64, ledger: Ledger) -> Result<Sessions> {
        let earlier = ledger.backends.list();
        let main = Writer::connect(green, slot, epoch, ledger.clone()).await?;
        ledger.backends.end(earlier, &main.client).await?;
        Ok(Sessions {
            main,
            green: green.clone(),
            slot: slot.to_owned(),
            epoch,
            ledger,
            running: Vec::new(),
            spare: None,
            waits_shortly: false,
        })
    }

    /// Writes a part of a transaction that runs on blue; what it ends is committed with its progress, or rolled back.
    ///
    /// # Errors
    /// As [`Writer::write`]. After an error none of the sessions is of use.
    pub async fn write_part(&mut self, part: Part) -> Result<Option<Committed>> {
        let mut running = match self.take_running(part.xid) {
            Some(running) => running,
            None => Running { xid: part.xid, writer: self.one_more().await?, savepoints: Vec::new() },
        };
        if part.end == End::RolledBack {
            // Its statements may be for tables that only it had altered: they go with the session.
            running.writer.run("rollback").await?;
            return Ok(None);
        }
        let mut committed = None;
        for step in part.steps {
            match step {
                Step::TakeBack(subxid) => running.take_back(subxid).await?,
                Step::Release(subxid) => running.release(subxid).await?,
                Step::Write { savepoint, batch } => {
                    if let Some(subxid) = savepoint {
                        running.set_savepoint(subxid).await?;
                    }
                    committed = running.write(*batch, self.main.is_synchronous()).await?;
                }
            }
        }
        match part.end {
            End::Open | End::RolledBack => self.running.push(running),
            End::Committed => self.spare = Some(running.writer),
        }
        Ok(committed)
    }

    fn take_running(&mut self, xid: u32) -> Option<Running> {
        let at = self.running.iter().position(|running| running.xid == xid)?;
        Some(self.running.swap_remove(at))
    }

    async fn one_more(&mut self) -> Result<Writer> {
        if !self.waits_shortly {
            self.main.run(SHORT_WAITS).await?;
            self.waits_shortly = true;
        }
        if let Some(writer) = self.spare.take() {
            return Ok(writer);
        }
        let mut writer = Writer::connect(&self.green, &self.slot, self.epoch, self.ledger.clone()).await?;
        writer.run(&format!("{SHORT_WAITS}; {LONG_TRANSACTION}")).await?;
        Ok(writer)
    }
}

impl Running {
    /// Writes a batch; one that ends the transaction commits it, durably or not.
    async fn write(&mut self, batch: Batch, synchronous: bool) -> Result<Option<Committed>> {
        let ends = batch.at_boundary();
        if !ends && batch.changes.is_empty() {
            return Ok(None);
        }
        if ends {
            // Only now: going back to a savepoint would take the setting back too.
            self.writer.set_synchronous(synchronous).await?;
            return self.writer.write(batch).await;
        }
        // The savepoints that a part sets for itself go with this one: green looks through all that are there for each row
        // that it judges, and there may be thousands of parts.
        self.writer.ensure_open().await?;
        self.writer.run("savepoint part").await?;
        let committed = self.writer.write(batch).await?;
        self.writer.run("release savepoint part").await?;
        Ok(committed)
    }

    async fn set_savepoint(&mut self, subxid: u32) -> Result<()> {
        self.writer.ensure_open().await?;
        self.savepoints.push((subxid, self.writer.applied()));
        self.writer.run(&format!("savepoint of_{subxid}")).await
    }

    async fn take_back(&mut self, subxid: u32) -> Result<()> {
        let applied = self.leave(subxid)?;
        let back = format!("rollback to savepoint of_{subxid}; release savepoint of_{subxid}");
        self.writer.run(&back).await?;
        self.writer.went_back_to(applied);
        Ok(())
    }

    async fn release(&mut self, subxid: u32) -> Result<()> {
        self.leave(subxid)?;
        self.writer.run(&format!("release savepoint of_{subxid}")).await
    }

    /// Forgets a savepoint and those after it.
    fn leave(&mut self, subxid: u32) -> Result<Applied> {
        let at = self.savepoints.iter().rposition(|(known, _)| *known == subxid);
        let left = at.and_then(|at| self.savepoints.drain(at..).next());
        left.map(|(_, applied)| applied)
            .ok_or_else(|| Error::new(Kind::Bug, "a savepoint was never set on green"))
    }
}

impl Writer {
    async fn run(&mut self, sql: &str) -> Result<()> {
        let Err(error) = in_time(self.client.batch_execute(sql)).await? else { return Ok(()) };
        // In a failed transaction everything fails; what failed first says why.
        self.pipeline.first_failure().await?;
        Err(error).doing(Kind::Server, || format!("green does not {sql}"))
    }

    async fn ensure_open(&mut self) -> Result<()> {
        match self.open {
            Some(_) => Ok(()),
            None => self.begin().await,
        }
    }

    /// What the open transaction has written.
    fn applied(&self) -> Applied {
        self.open.as_ref().map(|open| open.applied.clone()).unwrap_or_default()
    }

    /// The open transaction went back to a savepoint, and this is what it had written then.
    fn went_back_to(&mut self, applied: Applied) {
        self.landings.forget_new();
        if let Some(open) = &mut self.open {
            open.applied = applied;
        }
    }
}
