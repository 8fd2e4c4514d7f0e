//! The switch: its budget, its route, its gates, and the time after it.

use super::{Secret, Side};
use crate::plan::quantity::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cutover {
    /// The longest clients may be held; if the fence is not up by then, everything goes back and they go on.
    pub pause_max: Span,
    /// What sends clients to blue or green.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Conditions that must hold before the pause.
    pub gates: Vec<Gate>,
    /// The oldest open transaction on blue we begin with.
    pub transaction_age_max: Span,
    /// What sequences on green are moved past blue's value by, in steps of their increment.
    pub sequence_gap: u32,
    /// The watched time after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Soak>,
    /// Keeps blue supplied with green's writes, for a rollback after the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse: Option<Reverse>,
}

impl Default for Cutover {
    fn default() -> Cutover {
        Cutover {
            pause_max: Span(Duration::from_secs(5)),
            route: None,
            gates: Vec::new(),
            transaction_age_max: Span(Duration::from_secs(10)),
            sequence_gap: 1000,
            soak: None,
            reverse: None,
        }
    }
}

/// What sends clients to blue or green: exactly one of the two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Every PgBouncer instance in front of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<Vec<PgBouncer>>,
    /// Commands of the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<RouteCommand>,
}

/// One PgBouncer instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgBouncer {
    /// Connection string of the admin console: `host=… port=6432 user=… dbname=pgbouncer`.
    pub admin: Secret,
    /// The entry under `[databases]` that clients connect to.
    pub database: String,
    /// Path of its configuration file on this machine.
    pub config: String,
    /// Where green is, as this pooler reaches it: `host=… port=… dbname=…`; nothing else of the entry changes.
    pub to: String,
}

/// Commands that move clients. Each gets `MIGRATE_PLAN` and `MIGRATE_EPOCH` in its environment, must be idempotent, and has `deadline` to finish.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteCommand {
    /// Holds clients.
    pub pause: Vec<String>,
    /// Sends them to green.
    pub to_green: Vec<String>,
    /// Sends them to blue.
    pub to_blue: Vec<String>,
    /// Lets them go on.
    pub resume: Vec<String>,
    /// Exits 0 when clients are sent to green.
    pub prove: Vec<String>,
    /// How long each may take.
    pub deadline: Span,
}

/// A condition: exactly one of `lag_max`, `sql`, `http`, `command`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The most bytes of WAL green may be behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_max: Option<Size>,
    /// A query of one row and one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The side `sql` runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Side>,
    /// What `sql` must return, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// A URL to get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The status `http` must answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A program that must exit 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// The watched time after the switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Soak {
    /// How long.
    #[serde(rename = "for")]
    pub length: Span,
    /// How often the gates are looked at.
    #[serde(default = "every_five_seconds")]
    pub every: Span,
    /// Conditions.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What a failing gate does.
    #[serde(default)]
    pub on_failure: SoakFailure,
}

fn every_five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

/// What a failing gate does during the soak.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoakFailure {
    /// Stop and say so; green stays open.
    #[default]
    Stop,
    /// Ask the operator.
    Ask,
    /// Go back to blue over the reverse stream.
    Rollback,
}

/// Green's writes carried back to blue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// How long after the switch.
    pub keep: Span,
}
