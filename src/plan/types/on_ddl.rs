//! What happens when blue's tables are altered on the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when blue's tables are altered after the copy began. `docs/decisions/0012-harmless-ddl.md` lists the changes that are proved to
/// be harmless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDdl {
    /// The cutover refuses, and so does the follower as soon as it sees another shape.
    #[default]
    Stop,
    /// As `stop`, but changes that are proved to be harmless are told, written down for the report, and gone on with.
    Harmless,
}

impl OnDdl {
    // A plan without it has the fingerprint it always had.
    pub(super) fn is_stop(&self) -> bool {
        *self == OnDdl::Stop
    }
}
