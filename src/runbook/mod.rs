//! The runbook: the ordered list of steps computed from the plan and the facts. Pure.
//!
//! Read [`blue_green`] for the story of a migration. A runbook can be shown, compared and fingerprinted; only the
//! engine runs it.

pub mod blue_green;
pub mod copied;
pub mod in_place;
pub mod lost_writes;
pub mod tables;

use crate::error::{Doing, Kind, Result};
use crate::plan::Plan;
use crate::step::{Reversal, Step, world::World};
use serde::Serialize;

/// A chapter of the runbook.
pub struct Phase {
    /// Its name: `prepare`, `replicate`, `arm`, `switch`, `settle`; in place, `apply`.
    pub name: PhaseName,
    /// In order.
    pub steps: Vec<Box<dyn Step<World>>>,
}

/// The chapters of a migration: five of a blue-green one, and the only one of one in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Green gets its shape, and is closed.
    Prepare,
    /// Rows are copied, then followed.
    Replicate,
    /// Blue gets its gate, open.
    Arm,
    /// Clients are held, blue is fenced, green is opened, clients go on.
    Switch,
    /// What can wait until clients are served again.
    Settle,
    /// The one database is changed in place.
    Apply,
}

impl PhaseName {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            PhaseName::Prepare => "prepare",
            PhaseName::Replicate => "replicate",
            PhaseName::Arm => "arm",
            PhaseName::Switch => "switch",
            PhaseName::Settle => "settle",
            PhaseName::Apply => "apply",
        }
    }

    /// What happens in it, one line.
    pub fn story(self) -> &'static str {
        match self {
            PhaseName::Prepare => "green gets its shape, and is closed",
            PhaseName::Replicate => "rows are copied, then followed",
            PhaseName::Arm => "blue gets its gate, open",
            PhaseName::Switch => "clients are held, blue is fenced, green is opened, clients go on",
            PhaseName::Settle => "what can wait until clients are served again",
            PhaseName::Apply => "the live database is changed in place",
        }
    }
}

/// The ordered list of steps.
pub struct Runbook {
    /// In order.
    pub phases: Vec<Phase>,
}

/// A runbook as data, for showing and comparing.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// In order.
    pub phases: Vec<PhaseView>,
}

/// A phase as data.
#[derive(Debug, Clone, Serialize)]
pub struct PhaseView {
    /// Its name.
    pub name: PhaseName,
    /// In order.
    pub steps: Vec<StepView>,
}

/// A step as data.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// Its id.
    pub id: String,
    /// What it does.
    pub title: String,
    /// SQL and commands, as far as they are known beforehand.
    pub shows: Vec<String>,
    /// Locks that others may wait for; empty when there are none.
    pub locks: String,
    /// How long it may take before it gives up; empty when the work sets the time.
    pub deadline: String,
    /// Whether it may be taken back.
    pub reversal: Reversal,
}

impl Runbook {
    /// The steps of a phase; none when the runbook has no such phase.
    pub fn phase(&self, name: PhaseName) -> &[Box<dyn Step<World>>] {
        self.phases.iter().find(|phase| phase.name == name).map_or(&[], |phase| &phase.steps)
    }

    /// As data.
    pub fn view(&self) -> View {
        let step = |step: &dyn Step<World>| StepView {
            id: step.id().to_string(),
            title: step.title(),
            shows: step.shows(),
            locks: step.locks(),
            deadline: step.deadline(),
            reversal: step.reversal(),
        };
        let phases = self
            .phases
            .iter()
            .map(|phase| PhaseView {
                name: phase.name,
                steps: phase.steps.iter().map(|it| step(it.as_ref())).collect(),
            })
            .collect();
        View { phases }
    }

    /// The fingerprint: plan (secrets left out, and what may be changed while it runs), steps, their SQL and deadlines; never what changes by itself.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the plan cannot be written as JSON.
    pub fn fingerprint(&self, plan: &Plan) -> Result<String> {
        let text = serde_json::to_string(&(plan.pinned(), self.view()))
            .doing(Kind::Bug, || "the runbook cannot be written as JSON".into())?;
        Ok(blake3::hash(text.as_bytes()).to_hex()[..16].to_owned())
    }
}
