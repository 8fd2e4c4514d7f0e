//! What a run tells its listeners. Who shows it, and how, is `ui`'s business.

use serde::Serialize;
use std::sync::Arc;

/// Something that happened, for people and programs that watch.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A phase of the runbook begins.
    Phase {
        /// Its name.
        name: String,
    },
    /// A step begins.
    StepStarted {
        /// Its id.
        step: String,
        /// What it does, one line.
        title: String,
    },
    /// A step's effect was seen.
    StepDone {
        /// Its id.
        step: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// A step was found done: by an earlier run of ours, or before us (`adopted`).
    StepFound {
        /// Its id.
        step: String,
        /// It was there before us, and will never be undone.
        adopted: bool,
    },
    /// A step is taken back.
    StepUndone {
        /// Its id.
        step: String,
    },
    /// Rows and bytes of a long piece of work.
    Progress {
        /// What advances: a table, an index.
        subject: String,
        /// Done so far.
        rows: u64,
        /// Done so far.
        bytes: u64,
        /// Expected in all; 0 when unknown.
        total_bytes: u64,
        /// This subject is complete.
        done: bool,
    },
    /// How far green is behind blue.
    Lag {
        /// WAL bytes between blue's end and what green has applied.
        bytes: u64,
        /// Age of the newest transaction applied, by blue's clock; 0 when caught up.
        seconds: f64,
        /// Blue transactions applied since the start.
        transactions: u64,
    },
    /// The copy waits since blue is over a limit of the plan's throttle, or goes on.
    Throttled {
        /// The limit and what was seen; `None` when the copy goes on.
        by: Option<String>,
    },
    /// Something an operator should read.
    Note {
        /// One sentence.
        text: String,
    },
    /// Something an operator should act upon, though we go on.
    Warning {
        /// One sentence.
        text: String,
    },
}

/// Receives events. Must return at once: it is called from the data path.
pub trait Listener: Send + Sync {
    /// One event.
    fn tell(&self, event: Event);
}

/// A shared listener.
pub type Ears = Arc<dyn Listener>;

/// Hears nothing; for tests and for work nobody watches.
pub struct Deaf;

impl Listener for Deaf {
    fn tell(&self, _: Event) {}
}
