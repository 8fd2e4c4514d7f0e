//! The two loops, forward and back, over any list of steps; the journal they write; the lease they need.
//!
//! Order of writes, and why: `Started` goes to the journal before the effect, so that a crash in between is known to
//! have perhaps happened; `Applied` goes there only after the effect was seen. A step found present that we never
//! started was there before us: it is `Adopted`, and never undone.

pub mod failpoint;
pub mod journal;
pub mod keeper;
pub mod lease;
pub mod pin;
#[cfg(test)]
mod proof;
pub mod state;
pub mod status;

use crate::error::{Error, Kind, Result};
use crate::event::{Event, Listener};
use crate::step::{Adoption, Notes, Reversal, Standing, Step, StepId};
use journal::{Entry, Journal};
use status::{JournalEvent, Status};
use std::collections::BTreeMap;
use std::time::Instant;

/// A list of steps over a world `W`.
pub type Steps<W> = [Box<dyn Step<W>>];

/// What a journal says: the status of each step, and what the steps wrote down.
#[derive(Debug, Default)]
pub struct Record {
    statuses: BTreeMap<StepId, Status>,
    /// What the steps wrote down.
    pub notes: Notes,
}

impl Record {
    /// Replays a journal.
    ///
    /// # Errors
    /// [`Kind::Bug`] when an entry is not a legal move: the journal was edited, or another version wrote it.
    pub fn replay(entries: &[Entry]) -> Result<Record> {
        let mut record = Record::default();
        for entry in entries {
            record.take(entry)?;
        }
        Ok(record)
    }

    /// The status of a step.
    pub fn status(&self, step: &StepId) -> Status {
        self.statuses.get(step).copied().unwrap_or(Status::New)
    }

    /// Whether we have begun any of these steps and not taken it back.
    pub fn any_begun<W: Sync>(&self, steps: &Steps<W>) -> bool {
        steps.iter().any(|step| self.status(&step.id()).may_have_effect())
    }

    /// Whether all of these steps are done.
    pub fn is_done<W: Sync>(&self, steps: &Steps<W>) -> bool {
        steps.iter().all(|step| self.status(&step.id()).is_done())
    }

    fn take(&mut self, entry: &Entry) -> Result<()> {
        let next = self.status(&entry.step).next(entry.event).map_err(|illegal| {
            Error::new(Kind::Bug, format!("the journal says of step {}: {illegal}", entry.step)).hint(
                "the journal on green was edited or written by another version; keep it and report this",
            )
        })?;
        self.statuses.insert(entry.step.clone(), next);
        match (&entry.note, entry.event) {
            (Some(note), _) => self.notes.put(entry.step.clone(), note.clone()),
            (None, JournalEvent::Undone) => self.notes.remove(&entry.step),
            (None, _) => {}
        }
        Ok(())
    }
}

/// Drives steps over a world, writing a journal.
pub struct Engine<'a, W> {
    world: &'a W,
    journal: &'a dyn Journal,
    ears: &'a dyn Listener,
    record: Record,
}

impl<'a, W: Sync> Engine<'a, W> {
    /// Reads the journal and is ready to go on from it.
    pub async fn open(
        world: &'a W,
        journal: &'a dyn Journal,
        ears: &'a dyn Listener,
    ) -> Result<Engine<'a, W>> {
        let record = Record::replay(&journal.read().await?)?;
        Ok(Engine { world, journal, ears, record })
    }

    /// What the journal says now.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Goes forward until every step is applied. Safe to call again after a crash.
    ///
    /// # Errors
    /// The step's own error; [`Kind::Stopped`] when the world is not as the journal says, or something foreign is in
    /// the way.
    pub async fn forward(&mut self, steps: &Steps<W>) -> Result<()> {
        for step in steps {
            self.forward_one(step.as_ref()).await?;
        }
        Ok(())
    }

    async fn forward_one(&mut self, step: &dyn Step<W>) -> Result<()> {
        let id = step.id();
        let began = Instant::now();
        if self.record.status(&id) == Status::UndoStarted {
            self.undo_one(step).await?;
        }
        let status = self.record.status(&id);
        let seen = step.check(self.world, &self.record.notes).await?;
        match (status, seen) {
            (Status::Applied | Status::Adopted, Standing::Present) => {
                self.ears.tell(Event::StepFound { step: id.to_string(), adopted: status == Status::Adopted });
                return Ok(());
            }
            (_, Standing::Conflict(what)) => return Err(in_the_way(&id, &what)),
            (Status::Applied | Status::Adopted, Standing::Absent) => return Err(drifted(&id)),
            (Status::New, Standing::Present) if step.adoption() == Adoption::Refused => {
                return Err(in_the_way(&id, "its effect is there, and it is not ours"));
            }
            (Status::New, Standing::Present) if step.adoption() == Adoption::Allowed => {
                self.write(&id, JournalEvent::Adopted, None).await?;
                self.ears.tell(Event::StepFound { step: id.to_string(), adopted: true });
                return Ok(());
            }
            // We crashed after the effect and before the journal: it is ours, and only the record is missing.
            (Status::Started, Standing::Present) => {
                self.write(&id, JournalEvent::Applied, None).await?;
                self.ears.tell(Event::StepFound { step: id.to_string(), adopted: false });
                return Ok(());
            }
            // Not there, or to be made ours by doing it again.
            (Status::New | Status::Undone | Status::Started | Status::UndoStarted, _) => {}
        }
        self.ears.tell(Event::StepStarted { step: id.to_string(), title: step.title() });
        if status != Status::Started {
            // Asked once only: after a crash, a second look would see our own half-made effect as what was there before.
            let intent = step.intent(self.world, &self.record.notes).await?;
            failpoint::hit(&format!("{id}:planned"));
            self.write(&id, JournalEvent::Started, intent).await?;
        }
        failpoint::hit(&format!("{id}:started"));
        let note = step.apply(self.world, &self.record.notes).await?;
        failpoint::hit(&format!("{id}:effected"));
        if let Some(note) = &note {
            self.record.notes.put(id.clone(), note.clone());
        }
        match step.check(self.world, &self.record.notes).await? {
            Standing::Present => self.write(&id, JournalEvent::Applied, note).await?,
            Standing::Absent => return Err(not_there(&id)),
            Standing::Conflict(what) => return Err(in_the_way(&id, &what)),
        }
        failpoint::hit(&format!("{id}:applied"));
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ears.tell(Event::StepDone { step: id.to_string(), elapsed_ms });
        Ok(())
    }

    /// Takes back, in reverse order, every step that may have an effect of ours.
    ///
    /// # Errors
    /// [`Kind::ForwardOnly`] when a point of no return was passed; then nothing is undone.
    pub async fn back(&mut self, steps: &Steps<W>) -> Result<()> {
        self.refuse_past_no_return(steps).await?;
        for step in steps.iter().rev() {
            if self.record.status(&step.id()).may_have_effect() {
                self.undo_one(step.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// `Started` alone does not mean passed: the crash may have come before the effect, so we look.
    async fn refuse_past_no_return(&self, steps: &Steps<W>) -> Result<()> {
        for step in steps.iter().filter(|step| step.reversal() == Reversal::PointOfNoReturn) {
            let id = step.id();
            let status = self.record.status(&id);
            let passed = match status {
                Status::Applied | Status::Adopted => true,
                Status::Started | Status::UndoStarted => {
                    step.check(self.world, &self.record.notes).await? != Standing::Absent
                }
                Status::New | Status::Undone => false,
            };
            if passed {
                return Err(Error::new(
                    Kind::ForwardOnly,
                    format!("step {id} is done: the point of no return is passed"),
                )
                .hint("green may hold writes that blue does not; go on with `migrate cutover`"));
            }
        }
        Ok(())
    }

    async fn undo_one(&mut self, step: &dyn Step<W>) -> Result<()> {
        let id = step.id();
        if self.record.status(&id) != Status::UndoStarted {
            self.write(&id, JournalEvent::UndoStarted, None).await?;
        }
        failpoint::hit(&format!("{id}:undo-started"));
        step.undo(self.world, &self.record.notes).await?;
        failpoint::hit(&format!("{id}:undo-effected"));
        match step.check(self.world, &self.record.notes).await? {
            Standing::Absent => self.write(&id, JournalEvent::Undone, None).await?,
            Standing::Present => return Err(still_there(&id)),
            Standing::Conflict(what) => return Err(in_the_way(&id, &what)),
        }
        failpoint::hit(&format!("{id}:undone"));
        self.ears.tell(Event::StepUndone { step: id.to_string() });
        Ok(())
    }

    async fn write(
        &mut self,
        step: &StepId,
        event: JournalEvent,
        note: Option<serde_json::Value>,
    ) -> Result<()> {
        let entry = Entry { step: step.clone(), event, note };
        // Refuse to write nonsense before refusing to read it.
        self.record.status(step).next(event).map_err(|illegal| {
            Error::new(Kind::Bug, format!("a move that is not legal for step {step}: {illegal}"))
        })?;
        self.journal.append(&entry).await?;
        self.record.take(&entry)
    }
}

fn in_the_way(id: &StepId, what: &str) -> Error {
    Error::new(Kind::Stopped, format!("step {id} finds something in its way: {what}"))
        .hint("remove or rename it, then run the same command again")
}

fn drifted(id: &StepId) -> Error {
    Error::new(Kind::Stopped, format!("step {id} was done, and its effect is gone")).hint(
        "somebody undid it outside migrate; `migrate rollback` takes back what is left, then start again",
    )
}

fn not_there(id: &StepId) -> Error {
    Error::new(Kind::Stopped, format!("step {id} ran without an error, but its effect is not there"))
        .hint("run the same command again; if it repeats, report it with the output of `migrate report`")
}

fn still_there(id: &StepId) -> Error {
    Error::new(Kind::Stopped, format!("step {id} was taken back, but its effect is still there"))
        .hint("run the same command again; if it repeats, report it with the output of `migrate report`")
}
