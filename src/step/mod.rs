//! Steps: one small type per effect. Each looks, does, and takes back; each of the three may run twice.

pub mod analyze;
pub mod arm_gate;
pub mod attempt;
pub mod blue_shape;
pub mod clone_schema;
pub mod close_blue;
mod compare_joined;
mod compare_keys;
mod compare_mapped;
pub mod copy_rows;
pub mod count_lost;
pub mod ddl;
pub mod declare_opening;
pub mod defer_objects;
pub mod fence_blue;
pub mod fill_joined;
mod last_keys;
pub mod make_stage;
mod mark;
pub mod newcomers;
pub mod open_capture;
pub mod open_green;
pub mod pause_clients;
pub mod point_routes;
pub mod prove_join;
pub mod prove_keys;
pub mod prove_mapping;
pub mod prove_revocations;
pub mod prove_rows;
pub mod publish;
pub mod rebuild_objects;
pub mod replay_revocations;
pub mod resume_clients;
pub mod run_after_copy;
pub mod run_sql;
pub mod sample_rows;
mod sequences;
mod slot;
pub mod take_moment;
pub mod way_back;
pub mod world;
pub mod writes;

use crate::error::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt};

/// Stable name of a step, unique in a runbook: `fence/stop-writes`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(String);

impl StepId {
    /// From `phase/verb-noun`.
    pub fn new(id: impl Into<String>) -> StepId {
        StepId(id.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a look saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The effect is not there.
    Absent,
    /// The effect is there, exactly as this step would make it.
    Present,
    /// Something is there under our name that is not what we would make.
    Conflict(String),
}

/// Whether a step may be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversal {
    /// `undo` puts the world back.
    Undo,
    /// Once this has started, only going forward is safe.
    PointOfNoReturn,
}

/// What to do with an effect that is there before the step was ever begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It is somebody else's and serves as well: take it as it is, and never undo it.
    Allowed,
    /// Doing it again makes it ours, and then it is ours to undo: a pause.
    Redo,
    /// It cannot be: what it stands for (a drain, carried sequences) was not done by this attempt.
    Refused,
}

/// What steps wrote down for themselves and for later steps; journaled with the step's events.
#[derive(Debug, Clone, Default)]
pub struct Notes(BTreeMap<StepId, serde_json::Value>);

impl Notes {
    /// What a step wrote down, if it did and it still reads as a `T`.
    pub fn get<T: DeserializeOwned>(&self, step: &StepId) -> Option<T> {
        self.0.get(step).and_then(|note| serde_json::from_value(note.clone()).ok())
    }

    /// Keeps the newest note of a step.
    pub fn put(&mut self, step: StepId, note: serde_json::Value) {
        self.0.insert(step, note);
    }

    /// Forgets what a step wrote down, when it was taken back.
    pub fn remove(&mut self, step: &StepId) {
        self.0.remove(step);
    }
}

/// One durable unit of a migration over a world `W`.
///
/// Plain data: making and naming one does no I/O. A crash can fall between an effect and the journal, so `apply`
/// and `undo` must each be safe to run again, and `check` must see a half-made effect as `Absent` (apply again heals
/// it) or as a `Conflict`.
#[async_trait]
pub trait Step<W: Sync>: Send + Sync {
    /// Its name.
    fn id(&self) -> StepId;
    /// What it does, one line in the imperative.
    fn title(&self) -> String;
    /// SQL or commands it will run, as far as they are known beforehand, for `migrate plan`.
    fn shows(&self) -> Vec<String> {
        Vec::new()
    }
    /// The locks it takes that others may wait for, on which side, for how long; empty when there are none.
    fn locks(&self) -> String {
        String::new()
    }
    /// How long it may take before it gives up; empty when the work itself sets the time (a copy).
    fn deadline(&self) -> String {
        String::new()
    }
    /// Whether it may be taken back.
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }
    /// What to do with an effect that is there before the step was ever begun.
    fn adoption(&self) -> Adoption {
        Adoption::Allowed
    }
    /// What must be on record before the effect (what was there before it, say). Asked once, journaled with `Started`.
    async fn intent(&self, _world: &W, _notes: &Notes) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }
    /// Looks, without any effect.
    async fn check(&self, world: &W, notes: &Notes) -> Result<Standing>;
    /// Makes the effect. What it returns is journaled with `Applied` and replaces the intent.
    async fn apply(&self, world: &W, notes: &Notes) -> Result<Option<serde_json::Value>>;
    /// Takes the effect back.
    async fn undo(&self, world: &W, notes: &Notes) -> Result<()>;
}
