//! What the copy may cost blue.

use crate::plan::quantity::{LagMax, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the copy may cost blue. It may be changed while `replicate` runs: the file is read again when it changes, and the
/// fingerprint leaves it out. It holds for the copy only: a stream that is held back makes blue keep its WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// The most that all streams of rows move together, in COPY's format: `50MB/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_max: Option<Rate>,
    /// The copy waits while more client sessions than this are active on blue's server, in whichever database; ours do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_sessions_max: Option<u32>,
    /// The copy waits while a physical standby of blue is further behind than this: `10s`, as the standby told it last, or `64MB` of WAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_lag_max: Option<LagMax>,
    /// The copy waits while this query says `true` on blue. One boolean, asked every second in a read-only transaction, with 2 s to answer; names have their schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_while: Option<String>,
}

impl Throttle {
    /// Whether it limits nothing.
    pub fn is_none(&self) -> bool {
        *self == Throttle::default()
    }

    /// Whether blue must be asked for its load.
    pub fn asks_blue(&self) -> bool {
        self.active_sessions_max.is_some() || self.replica_lag_max.is_some() || self.pause_while.is_some()
    }
}
