//! Which tables are taken along, and what they are tied to.

use crate::check::{Check, Concerns::BlueGreen, lost_writes, relations, selection};
use crate::finding::Severity::{Blocking, Info, Warning};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "PATTERN_UNMATCHED",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "A pattern under `include` that matches nothing is most likely a typo.",
        remedy: "correct the pattern, or remove it; patterns are `schema.table`, case as stored",
        source: "issue 2",
        rule: selection::include_unmatched,
    },
    Check {
        code: "EXCLUDE_UNMATCHED",
        severity: Warning,
        concerns: BlueGreen,
        looks_at: "A pattern under `exclude` that matches nothing is most likely a typo.",
        remedy: "correct the pattern, or remove it",
        source: "issue 2",
        rule: selection::exclude_unmatched,
    },
    Check {
        code: "TABLE_LEFT_OUT",
        severity: Info,
        concerns: BlueGreen,
        looks_at: "Rows of tables that are not selected stay on blue.",
        remedy: "select it under `replicate.tables.include` if green needs its rows",
        source: "hazards A5 finding 5",
        rule: selection::left_out,
    },
    Check {
        code: "WRITES_NOT_CARRIED",
        severity: Warning,
        concerns: BlueGreen,
        looks_at: "In `mode: snapshot` green stays at the copy's moment: rows that blue writes after it are lost, except what revocation rules carry. `plan` and `check` say how many that are, by two looks at blue's counters; rows of transactions that were taken back count too, and TRUNCATE does not.",
        remedy: "be sure that nobody needs them; with `replicate.mode: stream` nothing is lost",
        source: "DESIGN 4, decisions/0015",
        rule: lost_writes::not_carried,
    },
    Check {
        code: "FAMILY_SPLIT",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "A partitioned table and its partitions, or a parent and its children, must be selected together.",
        remedy: "select all of the family, or none",
        source: "hazards A2.6, A2.7",
        rule: relations::family_split,
    },
    Check {
        code: "REFERENCE_OUT",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "A foreign key of a selected table to one that is not selected cannot be built on green, where the other rows are missing.",
        remedy: "select the other table too",
        source: "hazards A3.3, A3.9",
        rule: relations::reference_out,
    },
    Check {
        code: "REFERENCE_IN",
        severity: Warning,
        concerns: BlueGreen,
        looks_at: "A table that is not selected refers to a selected one: on green it is empty, and TRUNCATE of the selected one meets it.",
        remedy: "select it too, unless it is meant to be empty",
        source: "hazards A3.9",
        rule: relations::reference_in,
    },
];
