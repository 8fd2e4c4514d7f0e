//! One try from a fresh copy to finish. It names the slots, publications and queue, so that nothing of an earlier
//! try is mistaken for ours.

use serde::{Deserialize, Serialize};

/// A plan's name and the number of the try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The plan's name.
    pub plan: String,
    /// From 1; changes only with a fresh copy.
    pub number: i32,
}

impl Attempt {
    /// A plan's nth try.
    pub fn new(plan: impl Into<String>, number: i32) -> Attempt {
        Attempt { plan: plan.into(), number }
    }

    // Slot names allow only lower-case letters, digits and `_`; plan names have `-` instead of `_`, so no two plans meet.
    fn stem(&self) -> String {
        format!("migrate_{}_{}", self.plan.replace('-', "_"), self.number)
    }

    /// The slot that green follows.
    pub fn slot(&self) -> String {
        self.stem()
    }

    /// The publication of all replicated tables.
    pub fn publication(&self) -> String {
        self.stem()
    }

    /// The slot that revocations are captured from.
    pub fn capture_slot(&self) -> String {
        format!("{}_capture", self.stem())
    }

    /// The publication of the rules' tables.
    pub fn capture_publication(&self) -> String {
        format!("{}_capture", self.stem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_tries_apart() {
        let longest = Attempt::new("a".repeat(40), 999);
        assert!(longest.capture_slot().len() <= 63);
        assert_eq!(Attempt::new("hydra-2x", 2).slot(), "migrate_hydra_2x_2");
    }
}
