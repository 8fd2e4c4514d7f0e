//! The plan's mappings.

use crate::check::{Check, Concerns::BlueGreen, mapping};
use crate::finding::Severity::{Blocking, Info};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MAPPING_UNFIT",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Every column of blue must have its place on green or be given up by name, every NOT NULL column of green a value; a mapped row must be found again by what a change tells of the row before, and be computed from what a change sends (with the default identity, an update leaves out large values that it left alone).",
        remedy: "do what the parentheses say; `replicate.map` in docs/reference/plan.md",
        source: "DESIGN 8, decisions/0008",
        rule: mapping::unfit,
    },
    Check {
        code: "MAPPING_UNPROVED",
        severity: Info,
        concerns: BlueGreen,
        looks_at: "Whether green takes what an expression gives is known once green has its tables: `migrate replicate` has green prove every mapping before any row is there.",
        remedy: "nothing; or rehearse the plan on a copy of blue's schema",
        source: "DESIGN 8",
        rule: mapping::unproved,
    },
    Check {
        code: "REVOCATION_MAPPED",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "A revocation rule finds green's row by its key's columns, under the names that blue has for them.",
        remedy: "keep the rule's key columns as they are on green, and what it acts upon out of splits, merges and joins",
        source: "DESIGN 10",
        rule: mapping::revocation_key,
    },
];
