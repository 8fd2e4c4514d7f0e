//! What the journal lets us believe about a step, and the only legal moves.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What may be written about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalEvent {
    /// The effect was there before we touched it.
    Adopted,
    /// We are about to make the effect.
    Started,
    /// We have seen the effect.
    Applied,
    /// We are about to take the effect back.
    UndoStarted,
    /// We have seen it gone.
    Undone,
}

impl JournalEvent {
    /// As written in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            JournalEvent::Adopted => "adopted",
            JournalEvent::Started => "started",
            JournalEvent::Applied => "applied",
            JournalEvent::UndoStarted => "undo_started",
            JournalEvent::Undone => "undone",
        }
    }

    /// From the journal's text.
    pub fn parse(text: &str) -> Option<JournalEvent> {
        [Self::Adopted, Self::Started, Self::Applied, Self::UndoStarted, Self::Undone]
            .into_iter()
            .find(|event| event.as_str() == text)
    }
}

/// What the journal lets us believe about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never begun.
    New,
    /// Was there before us; never undone.
    Adopted,
    /// The effect may or may not be there: look before acting.
    Started,
    /// The effect was seen.
    Applied,
    /// The effect may or may not be gone: undo again.
    UndoStarted,
    /// The effect was seen gone; may be begun again.
    Undone,
}

/// A move that is not legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    /// Where we were.
    pub status: Status,
    /// What was written.
    pub event: JournalEvent,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` after {:?}", self.event.as_str(), self.status)
    }
}

impl Status {
    /// The only legal moves; used on every write and every read.
    pub fn next(self, event: JournalEvent) -> Result<Status, Illegal> {
        use JournalEvent as E;
        match (self, event) {
            (Status::New, E::Adopted) => Ok(Status::Adopted),
            (Status::New | Status::Undone, E::Started) => Ok(Status::Started),
            (Status::Started, E::Applied) => Ok(Status::Applied),
            (Status::Started | Status::Applied, E::UndoStarted) => Ok(Status::UndoStarted),
            (Status::UndoStarted, E::Undone) => Ok(Status::Undone),
            (status, event) => Err(Illegal { status, event }),
        }
    }

    /// Whether the effect was seen, ours or not.
    pub fn is_done(self) -> bool {
        matches!(self, Status::Applied | Status::Adopted)
    }

    /// Whether an effect of ours may be in the world.
    pub fn may_have_effect(self) -> bool {
        match self {
            Status::Started | Status::Applied | Status::UndoStarted => true,
            // Adopted things are somebody else's.
            Status::New | Status::Adopted | Status::Undone => false,
        }
    }
}
